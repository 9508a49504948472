#include "checkpoint/parallel/partner.h"

#include <stdlib.h>
#include <time.h>

#include "base/assert.h"
#include "base/clock.h"
#include "checkpoint/parallel/partner_parts.h"
#include "collectives/agree.h"

/* So often, or for so long, the first copy travels to see what that takes. */
#define EXCHANGES_MAX 5
#define EXCHANGES_NS  20000000

static struct trm_partner_set *current(struct trm_partner *partner)
{
    return &partner->sets[(partner->copies - 1) % TRM_PARTNER_SETS];
}

/* On the thread. */
static enum trm_status fill(void *context, struct trm_error *err)
{
    struct trm_partner *partner = context;
    struct timespec begin, end;
    (void)err;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
    trm_slot_fill(&current(partner)->own, &partner->form);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
    partner->copy_ns =
        (int64_t)(end.tv_sec - begin.tv_sec) * 1000000000 + (end.tv_nsec - begin.tv_nsec);
    return TRM_OK;
}

static enum trm_status begin(struct trm_partner *partner, const struct trm_ckpt_state *state,
                             struct trm_error *err)
{
    int64_t begin_ns = trm_clock_now_ns();
    TRM_ASSERT(partner->phase == TRM_PARTNER_IDLE);
    if (partner->settings.prepare != NULL) {
        enum trm_status status = partner->settings.prepare(partner->settings.context, err);
        if (status != TRM_OK)
            return status;
    }
    partner->copies++;
    partner->step = state->step;
    partner->lineage = state->lineage;
    partner->held_ns = trm_clock_now_ns() - begin_ns;
    struct trm_partner_set *set = current(partner);
    trm_slot_begin(&set->own, &partner->form, state);
    for (int i = 0; i < partner->roster.ward_count; i++)
        trm_slot_receive_begin(&set->wards[i]);
    partner->phase = TRM_PARTNER_COPYING;
    partner->task.run = fill;
    partner->task.context = partner;
    trm_writer_submit(partner->thread, &partner->task);
    return TRM_OK;
}

/* The copy is done: sends it, and receives those of the wards. */
static enum trm_status travel(struct trm_partner *partner, struct trm_error *err)
{
    const struct trm_partner_roster *roster = &partner->roster;
    struct trm_partner_set *set = current(partner);
    partner->phase = TRM_PARTNER_TRAVELLING;
    partner->send.data =
        trm_slot_message(&set->own, partner->form.layout.image_bytes, &partner->send.bytes);
    partner->send.peer = roster->partner;
    for (int i = 0; i < roster->ward_count; i++) {
        partner->receives[i].peer = roster->wards[i].rank;
        partner->receives[i].data = trm_slot_message(&set->wards[i], roster->wards[i].image_bytes,
                                                     &partner->receives[i].bytes);
    }
    return trm_comm_exchange(partner->comm, &partner->send, roster->partner >= 0, partner->receives,
                             roster->ward_count, partner->request, err);
}

/* Everything is there: completes the exchange. */
static enum trm_status arrive(struct trm_partner *partner, struct trm_error *err)
{
    struct trm_partner_set *set = current(partner);
    enum trm_status status = trm_request_wait(partner->request, err);
    for (int i = 0; status == TRM_OK && i < partner->roster.ward_count; i++) {
        status = trm_slot_receive_end(&set->wards[i], err);
        if (status == TRM_OK)
            continue;
        /* Between two hosts that compute: nothing of this attempt can be trusted to be sent well.
         */
        trm_error_prefix(err, "the copy of rank %d's shard that arrived here",
                         partner->roster.wards[i].rank);
        status = TRM_ERR_COMM;
        if (err != NULL)
            err->status = status;
    }
    if (status == TRM_OK)
        partner->phase = TRM_PARTNER_HERE;
    return status;
}

/* As far as it goes without waiting; with `wait`, to its end. */
static enum trm_status go_on(struct trm_partner *partner, bool wait, struct trm_error *err)
{
    int64_t begin_ns = trm_clock_now_ns();
    bool done = wait;
    enum trm_status status = partner->failure.status;
    if (status != TRM_OK)
        return trm_error_set(err, status, "%s", partner->failure.text);
    if (partner->phase == TRM_PARTNER_IDLE || partner->phase == TRM_PARTNER_HERE)
        return TRM_OK;
    if (partner->phase == TRM_PARTNER_COPYING && (wait || trm_task_done(&partner->task))) {
        (void)trm_writer_wait(partner->thread, &partner->task);
        status = travel(partner, err);
    }
    if (status == TRM_OK && partner->phase == TRM_PARTNER_TRAVELLING && !wait)
        status = trm_request_done(partner->request, &done, err);
    if (status == TRM_OK && partner->phase == TRM_PARTNER_TRAVELLING && done)
        status = arrive(partner, err);
    partner->held_ns += trm_clock_now_ns() - begin_ns;
    return status;
}

static void tell(struct trm_partner *partner, struct trm_partner_event event)
{
    if (partner->settings.event != NULL)
        partner->settings.event(partner->settings.context, &event);
}

/* The copy is here on all ranks. */
static void complete(struct trm_partner *partner)
{
    struct trm_partner_event event = {
        .kind = TRM_PARTNER_COMPLETE,
        .step = partner->step,
        .bytes = partner->form.layout.image_bytes,
        .copy_seconds = (double)partner->copy_ns / 1e9,
        .held_seconds = (double)partner->held_ns / 1e9,
    };
    partner->phase = TRM_PARTNER_IDLE;
    partner->complete_step = partner->step;
    partner->completed++;
    partner->copy_seconds += event.copy_seconds;
    partner->held_seconds += event.held_seconds;
    tell(partner, event);
}

void trm_partner_poll(struct trm_partner *partner)
{
    if (partner != NULL && partner->failure.status == TRM_OK)
        (void)go_on(partner, false, &partner->failure);
}

enum trm_status trm_partner_join(struct trm_partner *partner, struct trm_error *err)
{
    if (partner == NULL)
        return TRM_OK;
    int64_t begin_ns = trm_clock_now_ns();
    if (partner->phase == TRM_PARTNER_COPYING) {
        (void)trm_writer_wait(partner->thread, &partner->task);
        partner->held_ns += trm_clock_now_ns() - begin_ns;
    }
    return go_on(partner, false, err);
}

enum trm_status trm_partner_report(struct trm_partner *partner, int64_t step_ns,
                                   int64_t words[TRM_PARTNER_WORDS], struct trm_error *err)
{
    for (int i = 0; i < TRM_PARTNER_WORDS; i++)
        words[i] = INT64_MIN;
    if (partner == NULL)
        return TRM_OK;
    enum trm_status status = go_on(partner, false, err);
    if (step_ns > 0)
        trm_pace_step(&partner->pace, step_ns);
    words[0] = -(partner->phase == TRM_PARTNER_HERE ? partner->copies : partner->copies - 1);
    trm_pace_report(&partner->pace, words + 1);
    return status;
}

/* Whether it is time for the next copy; the same on all ranks. */
static bool is_due(const struct trm_partner *partner, const struct trm_ckpt_state *state)
{
    bool rolled_back = state->lineage != partner->lineage || state->step < partner->step;
    return partner->phase == TRM_PARTNER_IDLE && partner->set_count == TRM_PARTNER_SETS &&
           state->step != partner->step &&
           (rolled_back || state->step - partner->step >= partner->pace.interval);
}

enum trm_status trm_partner_advance(struct trm_partner *partner,
                                    const int64_t words[TRM_PARTNER_WORDS],
                                    const struct trm_ckpt_state *state, struct trm_error *err)
{
    if (partner == NULL)
        return TRM_OK;
    if (partner->phase == TRM_PARTNER_HERE && words[0] == -partner->copies) {
        trm_pace_copy(&partner->pace, partner->copy_ns + partner->held_ns);
        complete(partner);
    }
    if (trm_pace_agree(&partner->pace, words + 1))
        tell(partner,
             (struct trm_partner_event){.kind = TRM_PARTNER_PACED,
                                        .step = state->step,
                                        .interval = partner->pace.interval,
                                        .cost_share = trm_pace_cost_share(&partner->pace)});
    if (!is_due(partner, state))
        return TRM_OK;
    if (!trm_slot_form_fits(&partner->form, state)) {
        partner->step = state->step; /* looked at again after the next interval */
        tell(partner, (struct trm_partner_event){.kind = TRM_PARTNER_FULL, .step = state->step});
        return TRM_OK;
    }
    enum trm_status status = begin(partner, state, err);
    return status == TRM_OK ? go_on(partner, false, err) : status;
}

enum trm_status trm_partner_wait(struct trm_partner *partner, struct trm_error *err)
{
    if (partner == NULL)
        return TRM_OK;
    enum trm_status status = go_on(partner, true, err);
    int64_t here = status == TRM_OK ? partner->copies : -1;
    if (status == TRM_OK)
        status = trm_comm_all_reduce(partner->comm, &here, 1, TRM_MIN_I64, NULL, err);
    if (status == TRM_OK && partner->phase == TRM_PARTNER_HERE && here == partner->copies)
        complete(partner);
    return status;
}

/* Collective: the copy that is done travels, more than once if that is quick: the first time makes
 * connections, and any may meet something else that the machine does. The best one counts. */
static enum trm_status measure_exchange(struct trm_partner *partner, struct trm_error *err)
{
    int64_t least_ns = INT64_MAX, total_ns = 0;
    enum trm_status status = TRM_OK;
    for (int i = 0; i < EXCHANGES_MAX && total_ns < EXCHANGES_NS && status == TRM_OK; i++) {
        for (int w = 0; w < partner->roster.ward_count; w++)
            trm_slot_receive_begin(&current(partner)->wards[w]);
        partner->phase = TRM_PARTNER_COPYING;
        status = trm_comm_barrier(partner->comm, NULL, err);
        int64_t ns = -trm_clock_now_ns();
        if (status == TRM_OK)
            status = go_on(partner, true, err);
        ns += trm_clock_now_ns();
        if (status == TRM_OK)
            status = trm_comm_all_reduce(partner->comm, &ns, 1, TRM_MAX_I64, NULL, err);
        least_ns = ns < least_ns ? ns : least_ns;
        total_ns += ns;
    }
    if (status == TRM_OK)
        trm_pace_exchange(&partner->pace, least_ns);
    return status;
}

enum trm_status trm_partner_start(struct trm_partner *partner, const struct trm_ckpt_state *state,
                                  struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    if (!trm_slot_form_fits(&partner->form, state))
        status = trm_error_set(err, TRM_ERR_INTERNAL, "a list of skips that has no room");
    status = trm_agree(partner->comm, status, err);
    if (status != TRM_OK)
        return status;
    status = trm_agree(partner->comm, begin(partner, state, err), err);
    if (status != TRM_OK)
        return status;
    (void)trm_writer_wait(partner->thread, &partner->task);
    if (partner->roster.partner >= 0) /* for all ranks or for none */
        status = measure_exchange(partner, err);
    if (status == TRM_OK)
        status = trm_partner_wait(partner, err);
    if (status == TRM_OK)
        trm_pace_copy(&partner->pace, partner->copy_ns);
    return status;
}

int64_t trm_partner_step(const struct trm_partner *partner)
{
    return partner != NULL ? partner->complete_step : -1;
}

void trm_partner_totals(const struct trm_partner *partner, int64_t *copies, double *held_seconds,
                        double *copy_seconds, double *cost_share)
{
    *copies = partner->completed;
    *held_seconds = partner->held_seconds;
    *copy_seconds = partner->copy_seconds;
    *cost_share = trm_pace_cost_share(&partner->pace);
}

char *trm_partner_describe(const struct trm_partner *partner, char *text, size_t text_bytes)
{
    return trm_partner_roster_describe(&partner->roster, text, text_bytes);
}
