#include "trainer/numbers.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "checkpoint/store.h"
#include "collectives/agree.h"
#include "collectives/flight_write.h"
#include "trainer/replicas.h"
#include "trainer/saving.h"
#include "trainer/state.h"
#include "trainer/sums.h"

#define HOST_BYTES 256

/* " on rank 3 (node2)", or "" where every rank's own part is finite. Collective. */
static enum trm_status find_source(struct trm_run *run, bool finite_here, char *text,
                                   size_t text_bytes, struct trm_error *err)
{
    int size = run->world->size;
    int64_t first = finite_here ? size : run->world->rank;
    char host[HOST_BYTES] = "";
    enum trm_status status = trm_comm_all_reduce(run->world, &first, 1, TRM_MIN_I64, NULL, err);

    text[0] = '\0';
    if (status != TRM_OK || first >= size)
        return status;
    gethostname(host, sizeof host - 1);
    status = trm_comm_broadcast(run->world, host, sizeof host, (int)first, NULL, err);
    if (status == TRM_OK && size > 1)
        snprintf(text, text_bytes, " on rank %" PRId64 " (%s)", first, host);
    return status;
}

enum trm_status trm_numbers_judge(struct trm_run *run, const struct trm_step_metrics *metrics,
                                  const struct trm_batch *batch, bool finite_here,
                                  struct trm_error *err)
{
    const struct trm_config *config = run->config;
    enum trm_guard_verdict verdict =
        trm_guard_judge(config, &run->state, metrics->loss, metrics->grad_norm);
    char source[HOST_BYTES + 64];
    enum trm_status status = TRM_OK;

    run->tried = (struct trm_tried_step){.step = metrics->step,
                                         .first = run->state.next_sample,
                                         .next = batch->next_number,
                                         .data_hash = batch->data_hash,
                                         .verdict = verdict};
    /* Bad numbers may come from a bad copy: then a node is to blame, and not the samples. */
    if (verdict != TRM_GUARD_SOUND && config->replica_check_interval > 0 &&
        !trm_replicas_due(run, metrics->step))
        status = trm_replicas_check(run, metrics->step, err);
    if (status != TRM_OK || verdict == TRM_GUARD_SOUND)
        return status;
    status = find_source(run, finite_here, source, sizeof source, err);
    if (status != TRM_OK)
        return status;
    if (verdict == TRM_GUARD_SPIKE)
        return trm_error_set(
            err, TRM_ERR_NUMERICS,
            "step %" PRId64 ": loss %.5g is a spike, above %g times the median of the last %" PRId64
            ", which makes %.5g",
            metrics->step, metrics->loss, config->loss_spike_factor, config->loss_spike_window,
            trm_guard_limit(config, &run->state));
    return trm_error_set(err, TRM_ERR_NUMERICS,
                         "step %" PRId64 ": loss is %g%s and the gradient norm %g", metrics->step,
                         metrics->loss, source, metrics->grad_norm);
}

enum trm_status trm_numbers_scan(struct trm_run *run, struct trm_error *err)
{
    const char *tensor = NULL;
    enum trm_status status = trm_optimizer_find_not_finite(run->optimizer, run->parameters,
                                                           &run->sums->squares, &tensor, err);

    if (status == TRM_OK && tensor)
        status = trm_error_set(err, TRM_ERR_NUMERICS,
                               "step %" PRId64 " left something in \"%s\" or its moments that is "
                               "not finite",
                               run->state.step, tensor);
    return trm_agree(run->world, status, err);
}

/* A line of metrics.jsonl about the bad step, which stands among those of step `at`. */
static void record(struct trm_run *run, int64_t at, const char *action)
{
    static const char *const reasons[] = {[TRM_GUARD_SOUND] = "state not finite",
                                          [TRM_GUARD_NOT_FINITE] = "not finite",
                                          [TRM_GUARD_SPIKE] = "loss spike"};
    struct trm_bad_step_metrics line = {.step = at,
                                        .bad_step = run->tried.step,
                                        .reason = reasons[run->tried.verdict],
                                        .action = action,
                                        .first = run->tried.first,
                                        .next = run->tried.next,
                                        .lineage = run->state.lineage};

    trm_metrics_bad_step(&run->metrics, &line);
}

/* The end, in the words that `err` holds and `why`. */
static enum trm_status stop(struct trm_run *run, const char *why, struct trm_error *err)
{
    struct trm_error bad = *err;

    (void)trm_saving_wait(run, NULL); /* what was begun is from before, and sound */
    record(run, run->tried.step, "stop");
    return trm_error_set(err, TRM_ERR_NUMERICS, "%s; %s", bad.text, why);
}

/* The step's samples are consumed without an update, and the same step comes again. */
static enum trm_status skip_samples(struct trm_run *run, struct trm_error *err)
{
    struct trm_ckpt_state *state = &run->state;
    const struct trm_tried_step *tried = &run->tried;
    int64_t most = run->config->max_consecutive_skips;
    struct trm_error bad = *err;
    enum trm_status status;

    if (state->skips_in_row >= most)
        return stop(run,
                    "that is the end of max_consecutive_skips; lower lr, look at the samples that "
                    "were skipped, or go on from an older checkpoint",
                    err);
    status = trm_agree(run->world, trm_guard_skip(state, tried->first, tried->next, err), err);
    if (status != TRM_OK)
        return status;
    state->next_sample = tried->next;
    state->data_hash = tried->data_hash;
    state->skips_in_row++;
    trm_log(&run->log, TRM_LOG_WARNING,
            "%s; skipped samples %" PRId64 " to %" PRId64 " (try %d of at most %" PRId64 ")",
            bad.text, tried->first, tried->next - 1, state->skips_in_row, most);
    record(run, tried->step, "skip");
    return TRM_OK;
}

/* The state is back; what was skipped before stays so, and the samples of the bad steps join in.
 * Not collective. */
static enum trm_status keep_skips(struct trm_run *run, const struct trm_ckpt_skip *skips, int count,
                                  struct trm_error *err)
{
    struct trm_ckpt_state *state = &run->state;
    struct trm_tried_step *tried = &run->tried;
    int64_t sound = tried->step - run->config->rollback_skip_steps - state->step;
    int64_t first = state->next_sample;
    enum trm_status status = TRM_OK;

    for (int i = 0; i < count && status == TRM_OK; i++)
        status = trm_guard_skip(state, skips[i].first, skips[i].first + skips[i].count, err);
    if (status != TRM_OK)
        return status;
    if (sound > 0) /* steps that are done once more with the samples they had */
        first = trm_guard_walk(state, first, sound * run->config->global_batch_size);
    if (first < tried->first)
        tried->first = first;
    return trm_guard_skip(state, tried->first, tried->next, err);
}

/* Checkpoints of later steps belong to a history that was given up: a restart must not go on from
 * there. What can't be removed is told. Collective. */
static enum trm_status give_up_later(struct trm_run *run, struct trm_error *err)
{
    const char *save = run->config->save;
    struct trm_error error = {0};
    int64_t *steps = NULL;
    int count = 0;

    if (run->world->rank == 0 && trm_store_list(save, &steps, &count, NULL) != TRM_OK)
        count = 0;
    for (int i = 0; i < count && steps[i] > run->state.step; i++)
        if (trm_store_remove(save, steps[i], run->state.attempt, &error) == TRM_OK)
            trm_log(&run->log, TRM_LOG_INFO,
                    "removed step %" PRId64 ", of the history that was given up", steps[i]);
        else
            trm_log(&run->log, TRM_LOG_WARNING,
                    "%s; it is of the history that was given up, and a restart may go on from it",
                    error.text);
    free(steps);
    trm_saving_forget_later(run);
    return trm_comm_barrier(run->world, NULL, err);
}

/* Everything that goes on from the state, after it was set back. */
static enum trm_status go_on(struct trm_run *run, struct trm_error *err)
{
    enum trm_status status;

    trm_flight_step(run->flight, &(struct trm_flight_step){.step = run->state.step,
                                                           .samples = run->state.next_sample,
                                                           .loss = run->state.last_loss});
    if (run->world->rank == 0) {
        trm_metrics_close(&run->metrics);
        status = trm_metrics_open(&run->metrics, run->config->run_dir, run->state.step, err);
    } else
        status = TRM_OK;
    status = trm_agree(run->world, status, err);
    if (status == TRM_OK)
        status = trm_agree(run->world, trm_run_start_reader(run, err), err);
    if (status != TRM_OK)
        return status;
    record(run, run->state.step, "rollback");
    /* Durable before anything is built on it: a restart must not train on what was left out. */
    run->saved_step = -1;
    status = trm_saving_begin(run, err);
    if (status == TRM_OK)
        status = trm_saving_wait(run, err);
    if (status == TRM_OK && run->saved_step == run->state.step)
        status = give_up_later(run, err);
    return status;
}

/* The newest state from before all steps whose samples are left out; where there is none any more,
 * the newest from before the bad one. */
static enum trm_status restore(struct trm_run *run, struct trm_error *err)
{
    int64_t bad_step = run->tried.step;
    int64_t first = bad_step + 1 - run->config->rollback_skip_steps;
    enum trm_status status = trm_state_restore_before(run, first > 1 ? first : 1, err);

    if (status == TRM_ERR_NOT_FOUND)
        status = trm_state_restore_before(run, bad_step, err);
    return status;
}

static enum trm_status roll_back(struct trm_run *run, struct trm_error *err)
{
    struct trm_ckpt_state *state = &run->state;
    int64_t lineage = state->lineage + 1, most = run->config->max_rollbacks;
    struct trm_error bad = *err;
    struct trm_ckpt_skip *skips;
    int skip_count = state->skip_count;
    enum trm_status status;

    if (state->lineage >= most)
        return stop(run,
                    "that is the end of max_rollbacks; lower lr, look at the samples that were "
                    "left out, or go on from an older checkpoint",
                    err);
    status = trm_param_gather_finish(run->param_gather, err);
    if (status == TRM_OK)
        status = trm_saving_wait(run, err);
    if (status != TRM_OK)
        return status;
    skips = state->skips;
    state->skips = NULL;
    state->skip_count = 0;
    trm_run_phase(run, TRM_PHASE_LOAD);
    status = restore(run, err);
    if (status == TRM_OK)
        status = trm_agree(run->world, keep_skips(run, skips, skip_count, err), err);
    free(skips);
    if (status != TRM_OK)
        return trm_error_prefix(err, "%s; going back", bad.text);
    state->lineage = lineage;
    trm_log(&run->log, TRM_LOG_WARNING,
            "%s; went back to step %" PRId64 ", and on without samples %" PRId64 " to %" PRId64
            " (rollback %" PRId64 " of at most %" PRId64 ")",
            bad.text, state->step, run->tried.first, run->tried.next - 1, lineage, most);
    return go_on(run, err);
}

enum trm_status trm_numbers_act(struct trm_run *run, struct trm_error *err)
{
    struct trm_tried_step *tried = &run->tried;
    enum trm_guard_policy policy = trm_guard_policy_of(run->config, tried->verdict);

    /* The step was sound, and what it left is not. */
    if (tried->verdict == TRM_GUARD_SOUND && tried->step != run->state.step)
        *tried = (struct trm_tried_step){.step = run->state.step,
                                         .first = run->state.next_sample,
                                         .next = run->state.next_sample};
    if (policy == TRM_GUARD_STOP)
        return stop(run,
                    "nothing was updated; lower lr, look at the samples, or let the run go on by "
                    "itself with nonfinite_policy and loss_spike_policy",
                    err);
    /* An update can't be skipped any more once it is done. */
    if (policy == TRM_GUARD_SKIP && tried->verdict != TRM_GUARD_SOUND)
        return skip_samples(run, err);
    return roll_back(run, err);
}
