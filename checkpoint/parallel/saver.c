#include "checkpoint/parallel/saver.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/hash.h"
#include "checkpoint/parallel/save_gather.h"
#include "collectives/agree.h"

#define POLL_NS 2000000 /* between two looks of a rank that waits */

struct trm_saver {
    struct trm_saver_settings settings; /* pieces and tensors are not looked at any more */
    struct trm_save_plan plan;
    struct trm_writer *writer;
    bool copies;
    struct trm_save_job jobs[TRM_SAVER_SNAPSHOTS];
    int first, job_count; /* jobs[first] is under way, the one behind it waits */
    enum trm_save_phase phase;
    int64_t phases; /* begun, over all saves: equal on all ranks */
    bool asked;     /* this rank's writer has a task in this phase */
    struct trm_task task;
    uint64_t key; /* of nonces */
    int64_t saves, saved_step;
    int64_t verified[2]; /* the newest two steps, -1: none */
};

static double seconds_since(int64_t begin_ns)
{
    return (double)(trm_clock_now_ns() - begin_ns) / 1e9;
}

static struct trm_save_job *current(struct trm_saver *saver)
{
    return &saver->jobs[saver->first];
}

static void tell(struct trm_saver *saver, struct trm_save_event event)
{
    if (saver->settings.event != NULL)
        saver->settings.event(saver->settings.context, &event);
}

static void start_phase(struct trm_saver *saver, enum trm_save_phase phase)
{
    static enum trm_status (*const tasks[TRM_SAVE_PHASE_COUNT])(void *, struct trm_error *) = {
        [TRM_SAVE_STAGING] = trm_save_job_stage,      [TRM_SAVE_LAYING_OUT] = trm_save_job_lay_out,
        [TRM_SAVE_WRITING] = trm_save_job_write,      [TRM_SAVE_COMMITTING] = trm_save_job_commit,
        [TRM_SAVE_VERIFYING] = trm_save_job_verify,   [TRM_SAVE_PRUNING] = trm_save_job_prune,
        [TRM_SAVE_DISCARDING] = trm_save_job_discard,
    };
    struct trm_save_job *job = current(saver);
    saver->phase = phase;
    saver->phases++;
    saver->asked = trm_save_job_has(job, phase);
    if (!saver->asked)
        return;
    saver->task.run = tasks[phase];
    saver->task.context = job;
    trm_writer_submit(saver->writer, &saver->task);
}

/* The save under way is over; the one that waited follows. */
static void end_save(struct trm_saver *saver)
{
    trm_save_job_reset(current(saver));
    saver->first = (saver->first + 1) % TRM_SAVER_SNAPSHOTS;
    if (--saver->job_count > 0)
        start_phase(saver, TRM_SAVE_STAGING);
}

static void tell_done(struct trm_saver *saver)
{
    const struct trm_save_job *job = current(saver);
    double seconds = seconds_since(job->begin_ns);
    saver->saved_step = job->state.step;
    tell(saver,
         (struct trm_save_event){.kind = TRM_SAVE_DONE,
                                 .step = job->state.step,
                                 .next_sample = job->state.next_sample,
                                 .bytes = job->there_already ? 0 : saver->plan.my_bytes,
                                 .was_there = job->there_already != 0,
                                 .seconds = seconds,
                                 .held_seconds = saver->copies ? job->held_seconds : seconds});
}

/* What a phase that failed leaves to be done. */
static void fail(struct trm_saver *saver, const struct trm_error *error)
{
    struct trm_save_event event = {.step = current(saver)->state.step, .error = error};
    switch (saver->phase) {
    case TRM_SAVE_VERIFYING:
        event.kind = TRM_SAVE_UNVERIFIED;
        break;
    case TRM_SAVE_PRUNING:
        event.kind = TRM_SAVE_KEPT;
        break;
    case TRM_SAVE_DISCARDING: /* its leftovers are removed by the next save */
        end_save(saver);
        return;
    default:
        event.kind = TRM_SAVE_FAILED;
    }
    tell(saver, event);
    if (saver->phase == TRM_SAVE_LAYING_OUT || saver->phase == TRM_SAVE_WRITING ||
        saver->phase == TRM_SAVE_COMMITTING)
        start_phase(saver, TRM_SAVE_DISCARDING);
    else
        end_save(saver);
}

/* Collective: the phase is over on all ranks, and well. */
static enum trm_status next_phase(struct trm_saver *saver, struct trm_error *err)
{
    struct trm_save_job *job = current(saver);
    struct trm_comm *comm = saver->settings.comm;
    enum trm_status status = TRM_OK;
    switch (saver->phase) {
    case TRM_SAVE_STAGING:
        status =
            trm_comm_broadcast(comm, &job->there_already, sizeof(job->there_already), 0, NULL, err);
        if (status != TRM_OK)
            return status;
        if (!job->there_already) {
            start_phase(saver, TRM_SAVE_LAYING_OUT);
            return TRM_OK;
        }
        tell_done(saver);
        break;
    case TRM_SAVE_LAYING_OUT:
        status = trm_save_tell_files(comm, job, err);
        if (status == TRM_OK)
            start_phase(saver, TRM_SAVE_WRITING);
        return status;
    case TRM_SAVE_WRITING:
        status = trm_save_gather_files(comm, &saver->plan, job, err);
        if (status == TRM_OK)
            start_phase(saver, TRM_SAVE_COMMITTING);
        return status;
    case TRM_SAVE_COMMITTING:
        tell_done(saver);
        if (job->retention.keep_latest > 0) {
            start_phase(saver, TRM_SAVE_VERIFYING);
            return TRM_OK;
        }
        break;
    case TRM_SAVE_VERIFYING:
        trm_saver_note_verified(saver, job->state.step);
        memcpy(job->verified, saver->verified, sizeof(job->verified));
        start_phase(saver, TRM_SAVE_PRUNING);
        return TRM_OK;
    case TRM_SAVE_PRUNING:
        if (job->removed_count > 0)
            tell(saver, (struct trm_save_event){.kind = TRM_SAVE_REMOVED,
                                                .step = job->state.step,
                                                .removed = job->removed,
                                                .removed_count = job->removed_count});
        break;
    default:
        break;
    }
    end_save(saver);
    return TRM_OK;
}

int64_t trm_saver_report(const struct trm_saver *saver)
{
    if (saver == NULL || saver->job_count == 0)
        return INT64_MIN;
    bool done = !saver->asked || trm_task_done(&saver->task);
    return -(done ? saver->phases : saver->phases - 1);
}

static bool is_broken(enum trm_status status)
{
    return status == TRM_ERR_COMM || status == TRM_ERR_TIMEOUT;
}

enum trm_status trm_saver_advance(struct trm_saver *saver, int64_t word, struct trm_error *err)
{
    if (saver == NULL || saver->job_count == 0 || word != -saver->phases)
        return TRM_OK;
    struct trm_error error = {0};
    enum trm_status status = TRM_OK;
    if (saver->asked && saver->task.status != TRM_OK) {
        error = saver->task.error;
        status = saver->task.status;
    }
    status = trm_agree(saver->settings.comm, status, &error);
    if (status == TRM_OK)
        status = next_phase(saver, &error);
    if (is_broken(status))
        return trm_error_set(err, status, "%s", error.text);
    if (status != TRM_OK)
        fail(saver, &error);
    return TRM_OK;
}

/* Collective. Until at most `jobs` saves are left. */
static enum trm_status wait_for(struct trm_saver *saver, int jobs, struct trm_error *err)
{
    const struct timespec pause = {0, POLL_NS};
    enum trm_status status = TRM_OK;
    while (status == TRM_OK && saver->job_count > jobs) {
        int64_t phases = saver->phases;
        int64_t word = trm_saver_report(saver);
        status = trm_comm_all_reduce(saver->settings.comm, &word, 1, TRM_MAX_I64, NULL, err);
        if (status == TRM_OK)
            status = trm_saver_advance(saver, word, err);
        if (status == TRM_OK && saver->phases == phases && saver->job_count > jobs)
            nanosleep(&pause, NULL);
    }
    return status;
}

enum trm_status trm_saver_wait(struct trm_saver *saver, struct trm_error *err)
{
    return saver != NULL ? wait_for(saver, 0, err) : TRM_OK;
}

/* Saves that may be under way when another one begins. */
static int most_before(const struct trm_saver *saver)
{
    return saver->copies ? TRM_SAVER_SNAPSHOTS - 1 : 0;
}

bool trm_saver_is_busy(const struct trm_saver *saver)
{
    return !saver->copies || saver->job_count > most_before(saver);
}

enum trm_status trm_saver_begin(struct trm_saver *saver, const struct trm_ckpt_state *state,
                                struct trm_error *err)
{
    int64_t begin_ns = trm_clock_now_ns();
    int most = most_before(saver);
    bool must_wait = saver->job_count > most;
    enum trm_status status = wait_for(saver, most, err);
    if (status != TRM_OK)
        return status;
    if (must_wait)
        tell(saver, (struct trm_save_event){.kind = TRM_SAVE_WAITED,
                                            .step = state->step,
                                            .seconds = seconds_since(begin_ns)});
    struct trm_save_job *job =
        &saver->jobs[(saver->first + saver->job_count) % TRM_SAVER_SNAPSHOTS];
    if (saver->copies)
        trm_snapshot_take(&job->snapshot, saver->settings.copy_threads);
    job->replace_from = saver->settings.replace_from;
    job->nonce = trm_hash_roll(saver->key, (uint64_t)saver->saves++);
    trm_save_prepare(job, state);
    job->begin_ns = begin_ns;
    job->held_seconds = seconds_since(begin_ns);
    if (++saver->job_count == 1)
        start_phase(saver, TRM_SAVE_STAGING);
    return saver->copies ? TRM_OK : wait_for(saver, 0, err);
}

int64_t trm_saver_step(const struct trm_saver *saver)
{
    return saver->saved_step;
}

void trm_saver_note_verified(struct trm_saver *saver, int64_t step)
{
    int64_t *newest = saver->verified;
    if (step == newest[0] || step <= newest[1])
        return;
    newest[1] = step > newest[0] ? newest[0] : step;
    if (step > newest[0])
        newest[0] = step;
}

void trm_saver_forget_later(struct trm_saver *saver, int64_t step)
{
    int64_t *newest = saver->verified;
    for (int i = 0; i < 2 && newest[0] > step; i++) {
        newest[0] = newest[1];
        newest[1] = -1;
    }
}

/* Collective: nonces that nobody else draws, and the same on all ranks. */
static enum trm_status draw_key(struct trm_saver *saver, struct trm_error *err)
{
    uint64_t *key = &saver->key;
    if (getrandom(key, sizeof(*key), 0) != (ssize_t)sizeof(*key))
        *key = (uint64_t)trm_clock_now_ns();
    return trm_comm_broadcast(saver->settings.comm, key, sizeof(*key), 0, NULL, err);
}

/* Not collective. */
static enum trm_status create_jobs(struct trm_saver *saver, struct trm_error *err)
{
    enum trm_type type = saver->plan.tensors[0].type;
    enum trm_status status = trm_writer_create(&saver->writer, err);
    for (int i = 0; status == TRM_OK && i < TRM_SAVER_SNAPSHOTS; i++) {
        struct trm_save_job *job = &saver->jobs[i];
        job->plan = &saver->plan;
        job->retention = saver->settings.retention;
        job->skeleton.fd = -1;
        job->set = &saver->plan.live;
        if (!saver->copies)
            continue;
        job->set = &job->snapshot.set;
        status = trm_snapshot_create(&saver->plan.live, type, saver->settings.snapshots[i],
                                     &job->snapshot, err);
    }
    return status;
}

enum trm_status trm_saver_create(const struct trm_saver_settings *settings, struct trm_saver **out,
                                 struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    struct trm_saver *saver = calloc(1, sizeof(*saver));
    if (saver == NULL)
        status = trm_error_set(err, TRM_ERR_MEMORY, "out of memory for saving");
    status = trm_agree(settings->comm, status, err);
    if (status != TRM_OK) {
        free(saver);
        return status;
    }
    saver->settings = *settings;
    saver->saved_step = saver->verified[0] = saver->verified[1] = -1;
    saver->copies = settings->snapshots[0] != NULL;
    for (int i = 0; i < TRM_SAVER_SNAPSHOTS; i++)
        saver->jobs[i].skeleton.fd = -1;
    const struct trm_save_plan_settings plan = {
        settings->directory,   settings->tensors, settings->tensor_count,    settings->pieces,
        settings->piece_count, settings->node,    settings->shard_group_size};
    status = trm_save_plan_create(settings->comm, &plan, &saver->plan, err);
    if (status == TRM_OK)
        status = trm_agree(settings->comm, create_jobs(saver, err), err);
    if (status == TRM_OK)
        status = draw_key(saver, err);
    if (status != TRM_OK) {
        trm_saver_destroy(saver);
        return status;
    }
    *out = saver;
    return TRM_OK;
}

void trm_saver_destroy(struct trm_saver *saver)
{
    if (saver == NULL)
        return;
    trm_writer_destroy(saver->writer);
    for (int i = 0; i < TRM_SAVER_SNAPSHOTS; i++) {
        trm_save_job_reset(&saver->jobs[i]);
        trm_snapshot_destroy(&saver->jobs[i].snapshot);
    }
    trm_save_plan_destroy(&saver->plan);
    free(saver);
}
