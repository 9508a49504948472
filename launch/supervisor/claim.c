/* Attempts' numbers: claiming one, waiting out what it follows, and looking whether it is ours. */
#include "base/clock.h"
#include "launch/supervisor/parts.h"

#define CLAIM_CHECK_NS INT64_C(1000000000)
#define LOOK_AGAIN_MS  100
#define CLAIM_AGAIN_MS 1000

bool trm_supervisor_owns(const struct trm_supervisor *s, int64_t now_ns)
{
    int64_t owned_ms = trm_attempts_owned_ms(s->config->lease_ms);

    return s->claim.attempt == 0 || now_ns - s->claim_checked_ns < owned_ms * 1000000;
}

/* The run is another supervisor's. */
static void give_way(struct trm_supervisor *s, const struct trm_error *why)
{
    trm_supervisor_end_with(s, TRM_EXIT_UNAVAILABLE, "%s; this one gives way", why->text);
    trm_supervisor_event(s, TRM_EVENT_SUPERSEDED);
}

static void run_claim(uv_work_t *request)
{
    struct trm_supervisor *s = request->data;

    s->claiming.claim = s->claim;
    s->claiming.status = trm_attempts_claim(&s->attempts, &s->claiming.claim, &s->claiming.before,
                                            &s->claiming.error);
}

/* A claim that took long to make may not be the newest any more: it is looked at first. */
static void on_waited(uv_timer_t *timer)
{
    struct trm_supervisor *s = timer->data;

    if (trm_supervisor_owns(s, trm_clock_now_ns()))
        trm_supervisor_event(s, TRM_EVENT_CLAIMED);
    else
        uv_timer_start(timer, on_waited, LOOK_AGAIN_MS, 0);
}

static void on_claim_again(uv_timer_t *timer)
{
    struct trm_supervisor *s = timer->data;

    if (s->state == TRM_RUN_CLAIMING) /* no stop came between */
        trm_supervisor_claim(s);
}

/* A file system that is full or away comes back, and what is in the memory of nodes waits for it.
 */
static bool may_claim_again(struct trm_supervisor *s, const struct file_work *work)
{
    int64_t waited_ns = trm_clock_now_ns() - s->entered_ns;
    struct trm_event happened = trm_event_init(TRM_HAPPENED_WAITING);

    if (s->claim.attempt == 0 || (work->status != TRM_ERR_IO && work->status != TRM_ERR_NOT_FOUND))
        return false;
    if (s->config->io_timeout_ms > 0 && waited_ns > s->config->io_timeout_ms * 1000000)
        return false;
    if (!s->claim_waits) {
        happened.attempt = s->claim.attempt;
        happened.cause = work->error.text;
        trm_events_add(s->events, &happened, TRM_LOG_WARNING,
                       "waiting to claim the next attempt: %s", work->error.text);
    }
    s->claim_waits = true;
    uv_timer_start(&s->wait, on_claim_again, CLAIM_AGAIN_MS, 0);
    return true;
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
        if (s->state != TRM_RUN_CLAIMING || may_claim_again(s, work))
            return;
        if (work->status == TRM_ERR_MISMATCH) {
            give_way(s, &work->error);
            return;
        }
        trm_supervisor_end_with(s, trm_status_exit_code(work->status), "%s", work->error.text);
        trm_supervisor_event(s, TRM_EVENT_SUPERSEDED);
        return;
    }
    /* What went before a claim of our own is ours, and was fenced. */
    wait_ms = first ? trm_attempts_wait_ms(&work->before) : 0;
    s->claim = work->claim;
    s->claim_waits = false;
    s->claim_checked_ns = work->began_ns;
    if (first)
        s->inherited_until_ns = trm_clock_now_ns() + wait_ms * 1000000;
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
    s->claiming.began_ns = trm_clock_now_ns();
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
        s->claim_checked_ns = work->began_ns;
    } else if (work->status == TRM_ERR_MISMATCH) {
        give_way(s, &work->error);
    }
}

void trm_supervisor_claim_check_tick(struct trm_supervisor *s, int64_t now_ns)
{
    if (s->claim.attempt == 0 || s->claiming.busy || s->state == TRM_RUN_LEAVING ||
        now_ns - s->claim_checked_ns < CLAIM_CHECK_NS || s->checking_claim.busy)
        return;
    s->checking_claim.claim = s->claim;
    s->checking_claim.began_ns = now_ns;
    (void)trm_supervisor_work(s, &s->checking_claim, run_check, on_checked);
}
