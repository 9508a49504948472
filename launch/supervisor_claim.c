/* Attempts' numbers: claiming one, waiting out what it follows, and looking whether it is ours. */
#include "base/clock.h"
#include "launch/supervisor_parts.h"

#define CLAIM_CHECK_NS INT64_C(1000000000)

static void run_claim(uv_work_t *request)
{
    struct trm_supervisor *s = request->data;

    s->claiming.claim = s->claim;
    s->claiming.status = trm_attempts_claim(&s->attempts, &s->claiming.claim, &s->claiming.before,
                                            &s->claiming.error);
}

static void on_waited(uv_timer_t *timer)
{
    trm_supervisor_event(timer->data, TRM_EVENT_CLAIMED);
}

/* Ranks of a supervisor that never said that they are gone: its leases must be over. It may renew
 * them for as long as it can't look at its claim, which is a lease too. What went before a claim of
 * our own is ours, and was fenced. */
static int64_t inherited_wait_ms(const struct trm_claim *before, bool first)
{
    if (!first || before->attempt == 0 || before->ended)
        return 0;
    return 2 * before->lease_ms + before->lease_ms / 5 + 200;
}

static void on_claimed(uv_work_t *request, int status)
{
    struct trm_supervisor *s = request->data;
    struct file_work *work = &s->claiming;
    bool first = s->claim.attempt == 0;
    int64_t wait_ms;

    work->busy = false;
    if (status == UV_ECANCELED)
        return;
    if (work->status != TRM_OK) {
        if (s->state != TRM_RUN_CLAIMING)
            return;
        trm_supervisor_end_with(s, trm_status_exit_code(work->status), "%s", work->error.text);
        trm_supervisor_event(s, TRM_EVENT_SUPERSEDED);
        return;
    }
    wait_ms = inherited_wait_ms(&work->before, first);
    s->claim = work->claim;
    s->claim_checked_ns = trm_clock_now_ns();
    if (first)
        s->inherited_until_ns = s->claim_checked_ns + wait_ms * 1000000;
    if (s->state != TRM_RUN_CLAIMING) /* a stop came between */
        return;
    if (wait_ms > 0)
        trm_log(&s->log, TRM_LOG_INFO,
                "attempt %lld was left by a supervisor on %s: waiting %.1f s, until none of its "
                "ranks can be alive",
                (long long)work->before.attempt, work->before.host, (double)wait_ms / 1e3);
    uv_timer_start(&s->wait, on_waited, (uint64_t)wait_ms, 0);
}

void trm_supervisor_claim(struct trm_supervisor *s)
{
    s->claim.step = s->best_step;
    if (!trm_supervisor_work(s, &s->claiming, run_claim, on_claimed)) {
        trm_supervisor_end_with(s, TRM_EXIT_SOFTWARE, "could not begin to claim an attempt");
        trm_supervisor_event(s, TRM_EVENT_SUPERSEDED);
    }
}

static void run_check(uv_work_t *request)
{
    struct trm_supervisor *s = request->data;

    s->checking_claim.status =
        trm_attempts_check(&s->attempts, &s->checking_claim.claim, &s->checking_claim.error);
}

static void on_checked(uv_work_t *request, int status)
{
    struct trm_supervisor *s = request->data;
    struct file_work *work = &s->checking_claim;

    work->busy = false;
    /* A claim of our own that is being made is a newer one too. */
    if (status == UV_ECANCELED || s->claiming.busy || work->claim.attempt != s->claim.attempt)
        return;
    if (work->status == TRM_OK) {
        s->claim_checked_ns = trm_clock_now_ns();
    } else if (work->status == TRM_ERR_MISMATCH) {
        trm_supervisor_end_with(s, TRM_EXIT_UNAVAILABLE, "%s; this one gives way",
                                work->error.text);
        trm_supervisor_event(s, TRM_EVENT_SUPERSEDED);
    }
}

void trm_supervisor_claim_check_tick(struct trm_supervisor *s, int64_t now_ns)
{
    if (s->claim.attempt == 0 || s->claiming.busy || s->state == TRM_RUN_LEAVING ||
        now_ns - s->claim_checked_ns < CLAIM_CHECK_NS || s->checking_claim.busy)
        return;
    s->checking_claim.claim = s->claim;
    (void)trm_supervisor_work(s, &s->checking_claim, run_check, on_checked);
}
