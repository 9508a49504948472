/* Verdicts in words. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/human.h"
#include "collectives/verdict.h"

struct text {
    char *bytes;
    size_t used, size;
};

static void add(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(struct text *text, const char *format, ...)
{
    va_list arguments;
    int length;

    va_start(arguments, format);
    length = vsnprintf(text->bytes + text->used, text->size - text->used, format, arguments);
    va_end(arguments);
    if (length > 0)
        text->used += (size_t)length;
    if (text->used >= text->size)
        text->used = text->size - 1;
}

static void add_duration(struct text *text, int64_t ms)
{
    char duration[32];

    add(text, "%s", trm_human_duration(duration, sizeof duration, (double)ms / 1e3));
}

/* "rank 3", "ranks 0, 1 and 2", "ranks 0, 1, 2 and 61 more": `count`, of which some are listed. */
static void add_ranks(struct text *text, const struct trm_flight_view *ranks, const int *indexes,
                      int listed, int count)
{
    add(text, count == 1 ? "rank " : "ranks ");
    for (int i = 0; i < listed; i++)
        add(text, "%s%d", i == 0 ? "" : i == count - 1 ? " and " : ", ", ranks[indexes[i]].rank);
    if (listed < count)
        add(text, " and %d more", count - listed);
}

static void add_rank(struct text *text, const struct trm_flight_view *rank, const char *node)
{
    add(text, "rank %d", rank->rank);
    if (node)
        add(text, " on %s", node);
}

/* "all-reduce 412 of the data group (step 118)" */
static void add_place(struct text *text, const struct trm_verdict *v)
{
    add(text, "%s %" PRId64 " of the %s%s", trm_flight_operation_name(v->operation), v->number,
        trm_flight_group_name(v->group), v->group == TRM_FLIGHT_WORLD ? "" : " group");
    if (v->step >= 0)
        add(text, " (step %" PRId64 ")", v->step);
}

static void add_waiters(struct text *text, const struct trm_verdict *v,
                        const struct trm_flight_view *ranks)
{
    if (v->waiter_count > 0) {
        add(text, "; ");
        int most = TRM_VERDICT_LISTED;
        add_ranks(text, ranks, v->waiters, v->waiter_count < most ? v->waiter_count : most,
                  v->waiter_count);
        add(text, v->waiter_count == 1 ? " waits for " : " wait for ");
        add_duration(text, v->waited_ms);
    }
    if (v->other_waiter_count > 0)
        add(text, ", and %d more behind %s", v->other_waiter_count,
            v->waiter_count == 1 ? "it" : "them");
}

/* ", stopped by a signal" */
static void add_process(struct text *text, const struct trm_flight_view *rank)
{
    if (rank->process == 'X')
        add(text, ", its process is gone");
    else if (rank->process == 'T')
        add(text, ", stopped by a signal");
    else if (rank->process == 't')
        add(text, ", stopped by a debugger");
    else if (rank->process == 'D')
        add(text, ", its process waits for storage or a device and can't be interrupted");
}

/* How the first culprit misses the place. */
static void add_absence(struct text *text, const struct trm_verdict *v,
                        const struct trm_flight_view *rank)
{
    const struct trm_flight_lane_view *lane = &rank->lanes[v->group];

    if (v->number == 0) {
        add(text, " does not get on");
        if (v->step >= 0)
            add(text, " (step %" PRId64 ")", v->step);
        return;
    }
    if (lane->entered < v->number)
        add(text, " did not arrive at ");
    else if (lane->waiting == v->number)
        add(text, " does not complete ");
    else
        add(text, " has started and does not complete ");
    add_place(text, v);
}

/* ": in forward for 6.2 s, stopped by a signal" */
static void add_whereabouts(struct text *text, const struct trm_verdict *v,
                            const struct trm_flight_view *rank)
{
    if (rank->state == TRM_FLIGHT_EXITED) {
        add(text, ": it left with exit code %d%s%s", rank->exit_code,
            rank->exit_text[0] ? ", " : "", rank->exit_text);
        return;
    }
    add(text, ": %sin %s for ", v->kind == TRM_VERDICT_STORAGE ? "waiting for storage, " : "",
        trm_phase_name(rank->phase));
    add_duration(text, rank->phase_age_ms);
    add_process(text, rank);
}

/* "; ranks 5 and 7 as well" */
static void add_others(struct text *text, const struct trm_verdict *v,
                       const struct trm_flight_view *ranks)
{
    int listed = v->culprit_count < TRM_VERDICT_LISTED ? v->culprit_count : TRM_VERDICT_LISTED;

    if (v->culprit_count < 2)
        return;
    add(text, "; ");
    add_ranks(text, ranks, v->culprits + 1, listed - 1, v->culprit_count - 1);
    add(text, " as well");
}

/* Nobody here is to blame. */
static void add_deadlock(struct text *text, const struct trm_verdict *v,
                         const struct trm_flight_view *ranks)
{
    if (v->kind == TRM_VERDICT_STUCK) {
        add_place(text, v);
        add(text, " does not complete, though every rank has arrived: look at the network between "
                  "them");
    } else if (v->kind == TRM_VERDICT_CROSSED) {
        add(text, "ranks wait for each other at different collectives, a bug: ");
        add_place(text, v);
    } else {
        add(text, "all ranks here wait for ranks of other nodes at ");
        add_place(text, v);
    }
    add_waiters(text, v, ranks);
}

void trm_verdict_describe(const struct trm_verdict *verdict, const struct trm_flight_view *ranks,
                          const char *const *nodes, char *text, size_t text_bytes)
{
    struct text out = {.bytes = text, .size = text_bytes};
    int first = verdict->culprits[0];

    text[0] = '\0';
    if (verdict->kind == TRM_VERDICT_NONE) {
        add(&out, "no rank is to blame");
    } else if (verdict->culprit_count == 0) {
        add_deadlock(&out, verdict, ranks);
    } else {
        add_rank(&out, &ranks[first], nodes ? nodes[first] : NULL);
        add_absence(&out, verdict, &ranks[first]);
        add_whereabouts(&out, verdict, &ranks[first]);
        add_others(&out, verdict, ranks);
        add_waiters(&out, verdict, ranks);
    }
}
