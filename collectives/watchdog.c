#include "collectives/watchdog.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/human.h"
#include "base/log.h"
#include "collectives/flight_write.h"

#define TICK_MS      20
#define TICKS_A_LOOK 10           /* at other ranks: 200 ms */
#define GAP_NS       3000000000LL /* without a look: this process was stopped itself */
#define STACK_BYTES  (256 << 10)
#define GRACE_PERCENT                                                                           \
    25                  /* longer, where the culprit may be on another node, which knows better \
                         */
#define SPEAKER_MS 3000 /* for the rank that speaks to end the job */

struct trm_watchdog {
    struct trm_attach *attach; /* borrowed */
    struct trm_stall_limits limits;
    bool watches_progress;
    pthread_t thread;
    int wake; /* eventfd: the stop */
    struct trm_stall stall;
    struct trm_flight_view *views; /* [capacity] */
    struct trm_tally *tallies;     /* for a verdict over these */
    const char **nodes;            /* [capacity], all this host */
    char host[256];
    int64_t pid_space;
    bool told_storage; /* by this rank */
};

static void say(enum trm_log_level level, int rank, const char *text)
{
    const struct trm_log log = {.level = TRM_LOG_INFO, .rank = rank, .fd = STDERR_FILENO};

    trm_log(&log, level, "%s", text);
}

/* The one place where this thread acts. Nothing of the process can be relied upon: no exit
 * handlers, no buffers. */
static _Noreturn void end_process(struct trm_watchdog *w, int rank, const char *text)
{
    say(TRM_LOG_ERROR, rank, text);
    trm_flight_exit(&w->attach->flight, TRM_ERR_TIMEOUT, TRM_EXIT_UNAVAILABLE, text);
    _exit(TRM_EXIT_UNAVAILABLE);
}

static int own_rank(const struct trm_watchdog *w)
{
    struct trm_flight_record *record = w->attach->flight.record;

    return record ? atomic_load_explicit(&record->rank, memory_order_relaxed) : -1;
}

/* All claimed records; how many. */
static int look(struct trm_watchdog *w, int64_t now_ns)
{
    struct trm_flight_segment *segment = w->attach->flight.segment;
    int count = 0;

    for (int i = 0; i < segment->capacity; i++) {
        trm_flight_view(&segment->records[i], now_ns, &w->views[count]);
        count += w->views[count].state != TRM_FLIGHT_EMPTY;
    }
    return count;
}

/* A rank in a PID namespace of its own (a container) can't be looked up by number. */
static void look_up_processes(struct trm_watchdog *w, int count)
{
    struct trm_flight_segment *segment = w->attach->flight.segment;
    int at = 0;

    for (int i = 0; i < segment->capacity && at < count; i++) {
        struct trm_flight_record *record = &segment->records[i];
        if (atomic_load(&record->state) == TRM_FLIGHT_EMPTY)
            continue;
        if (w->pid_space != 0 && atomic_load(&record->pid_space) == w->pid_space)
            w->views[at].process = trm_flight_process(w->views[at].pid);
        at++;
    }
}

/* Told once per wait and node, by whoever notes it first. */
static void tell_storage(struct trm_watchdog *w, const struct trm_verdict *verdict)
{
    int32_t untold = 0;
    char sentence[900], text[1024];

    if (!atomic_compare_exchange_strong(&w->attach->flight.segment->waits_for_storage, &untold, 1))
        return;
    w->told_storage = true;
    trm_verdict_describe(verdict, w->views, w->nodes, sentence, sizeof sentence);
    snprintf(text, sizeof text, "no progress: %s", sentence);
    say(TRM_LOG_WARNING, -1, text);
}

/* One rank of the node says it; the others follow in case that one can't. */
static void judge(struct trm_watchdog *w, const struct trm_verdict *verdict)
{
    int32_t unjudged = 0;
    char sentence[900], duration[32], text[1024];

    if (!atomic_compare_exchange_strong(&w->attach->flight.segment->judged, &unjudged, 1)) {
        if (poll(NULL, 0, SPEAKER_MS) == 0)
            end_process(w, own_rank(w), "no rank of this node gets on");
        return;
    }
    trm_verdict_describe(verdict, w->views, w->nodes, sentence, sizeof sentence);
    snprintf(text, sizeof text, "no progress for %s, so the job ends: %s",
             trm_human_duration(duration, sizeof duration, (double)trm_stall_ms(&w->stall) / 1e3),
             sentence);
    end_process(w, -1, text);
}

static void watch_progress(struct trm_watchdog *w)
{
    int64_t now_ns = trm_clock_now_ns(), stalled_ms, limit_ms;
    uint64_t before = w->stall.signature;
    int count = look(w, now_ns);
    struct trm_verdict verdict;

    trm_stall_observe(&w->stall, w->views, count, now_ns, GAP_NS);
    stalled_ms = trm_stall_ms(&w->stall);
    if (w->told_storage && w->stall.signature != before) { /* more than a gap of this rank's own */
        w->told_storage = false;
        atomic_store(&w->attach->flight.segment->waits_for_storage, 0);
    }
    if (stalled_ms < trm_stall_limit_ms(&w->stall, &w->limits, TRM_VERDICT_LATE))
        return;
    look_up_processes(w, count);
    trm_verdict_find(w->views, count, w->tallies, &verdict);
    limit_ms = trm_stall_limit_ms(&w->stall, &w->limits, verdict.kind);
    if (verdict.kind == TRM_VERDICT_STORAGE && stalled_ms < limit_ms)
        tell_storage(w, &verdict);
    if (verdict.kind == TRM_VERDICT_ELSEWHERE || verdict.kind == TRM_VERDICT_NONE)
        limit_ms += limit_ms / 100 * GRACE_PERCENT;
    if (stalled_ms >= limit_ms)
        judge(w, &verdict);
}

static void *watch(void *context)
{
    struct trm_watchdog *w = context;
    struct pollfd ends[2] = {{.fd = w->wake, .events = POLLIN},
                             {.fd = w->attach->socket, .events = POLLRDHUP}};

    for (unsigned tick = 0;; tick++) {
        int ready = poll(ends, 2, TICK_MS);
        if (ready > 0 && ends[0].revents)
            return NULL;
        if (trm_flight_lease_lapsed(&w->attach->flight))
            end_process(w, own_rank(w),
                        "this node's lease has lapsed, so the job may run elsewhere by now: "
                        "leaving");
        if (ready > 0 && (ends[1].revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)))
            end_process(w, own_rank(w), "the agent of this node is gone: leaving");
        if (w->watches_progress && tick % TICKS_A_LOOK == 0)
            watch_progress(w);
    }
}

static enum trm_status prepare(struct trm_watchdog *w, const struct trm_stall_limits *limits,
                               struct trm_error *err)
{
    const struct trm_flight_segment *segment = w->attach->flight.segment;
    size_t capacity = segment ? (size_t)segment->capacity : 1;

    w->watches_progress = limits && segment;
    if (limits)
        w->limits = *limits;
    w->pid_space = trm_flight_pid_space();
    gethostname(w->host, sizeof w->host - 1);
    w->views = calloc(capacity, sizeof *w->views);
    w->nodes = calloc(capacity, sizeof *w->nodes);
    w->tallies = calloc(TRM_TALLY_PLACES(capacity), sizeof *w->tallies);
    if (!w->views || !w->nodes || !w->tallies)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory to watch %zu ranks", capacity);
    for (size_t i = 0; i < capacity; i++)
        w->nodes[i] = w->host;
    trm_stall_init(&w->stall, trm_clock_now_ns());
    w->wake = eventfd(0, EFD_CLOEXEC);
    return w->wake >= 0 ? TRM_OK : trm_error_set_errno(err, errno, "making an eventfd");
}

/* With all signals blocked: none is this thread's to take. */
static enum trm_status start_thread(struct trm_watchdog *w, struct trm_error *err)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    int code;

    sigfillset(&all);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    code = pthread_create(&w->thread, &attributes, watch, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return code == 0 ? TRM_OK : trm_error_set_errno(err, code, "starting the watchdog");
}

static void destroy(struct trm_watchdog *w)
{
    if (w->wake >= 0)
        close(w->wake);
    free(w->views);
    free(w->tallies);
    free(w->nodes);
    free(w);
}

enum trm_status trm_watchdog_start(struct trm_attach *attach, const struct trm_stall_limits *limits,
                                   struct trm_watchdog **out, struct trm_error *err)
{
    struct trm_watchdog *w = calloc(1, sizeof *w);
    enum trm_status status;

    if (!w)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for the watchdog");
    w->attach = attach;
    w->wake = -1;
    status = prepare(w, limits, err);
    if (status == TRM_OK)
        status = start_thread(w, err);
    if (status != TRM_OK) {
        destroy(w);
        return status;
    }
    *out = w;
    return TRM_OK;
}

void trm_watchdog_stop(struct trm_watchdog *w)
{
    if (!w)
        return;
    (void)eventfd_write(w->wake, 1);
    pthread_join(w->thread, NULL);
    destroy(w);
}
