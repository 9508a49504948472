#include "collectives/verdict.h"

#include <string.h>

const char *trm_verdict_kind_name(enum trm_verdict_kind kind)
{
    static const char *const names[TRM_VERDICT_KIND_COUNT] = {
        [TRM_VERDICT_NONE] = "none",       [TRM_VERDICT_GONE] = "gone",
        [TRM_VERDICT_STOPPED] = "stopped", [TRM_VERDICT_LATE] = "late",
        [TRM_VERDICT_ABSENT] = "absent",   [TRM_VERDICT_STILL] = "still",
        [TRM_VERDICT_STORAGE] = "storage", [TRM_VERDICT_STUCK] = "stuck",
        [TRM_VERDICT_CROSSED] = "crossed", [TRM_VERDICT_ELSEWHERE] = "elsewhere",
    };

    return (unsigned)kind < TRM_VERDICT_KIND_COUNT ? names[kind] : "unknown";
}

static bool is_gone(const struct trm_flight_view *rank)
{
    return rank->state == TRM_FLIGHT_EXITED || rank->process == 'X';
}

static bool is_stopped(const struct trm_flight_view *rank)
{
    return rank->process == 'T' || rank->process == 't';
}

static int waiting_group(const struct trm_flight_view *rank)
{
    return is_gone(rank) ? -1 : trm_tally_waiting_group(rank);
}

/* Are both in one communicator of this kind? Before the mesh is known there is only the world. */
static bool share(const struct trm_flight_view *a, const struct trm_flight_view *b, int group)
{
    int size = a->tensor_size;

    if (group == TRM_FLIGHT_WORLD)
        return true;
    if (size < 1 || b->tensor_size != size)
        return false;
    return group == TRM_FLIGHT_DATA ? a->rank % size == b->rank % size
                                    : a->rank / size == b->rank / size;
}

static int group_size(const struct trm_flight_view *rank, int group)
{
    return group == TRM_FLIGHT_WORLD  ? rank->world_size
           : group == TRM_FLIGHT_DATA ? rank->data_size
                                      : rank->tensor_size;
}

/* Does `waiter` wait for `other`, who has not yet come there? */
static bool waits_for(const struct trm_flight_view *waiter, const struct trm_flight_view *other)
{
    int g = waiting_group(waiter);

    return g >= 0 && share(waiter, other, g) && other->lanes[g].entered < waiter->lanes[g].waiting;
}

/* Does it wait in a group of `other`, who is somewhere else? */
static bool waits_with(const struct trm_flight_view *waiter, const struct trm_flight_view *other)
{
    int g = waiting_group(waiter);

    return g >= 0 && share(waiter, other, g) && other->lanes[g].waiting != waiter->lanes[g].waiting;
}

typedef bool relation_fn(const struct trm_flight_view *waiter, const struct trm_flight_view *other);

/* Who waits longest for ranks[at]; -1: nobody. */
static int longest_waiter(const struct trm_flight_view *ranks, int count, int at,
                          relation_fn *relation)
{
    int64_t age = -1;
    int found = -1;

    for (int i = 0; i < count; i++) {
        if (i == at || !relation(&ranks[i], &ranks[at]))
            continue;
        int64_t its = ranks[i].lanes[waiting_group(&ranks[i])].age_ms;
        if (its > age) {
            age = its;
            found = i;
        }
    }
    return found;
}

/* Kept in the order of their numbers; the one described first is put in front later. */
static void add_culprit(struct trm_verdict *out, int index)
{
    if (out->culprit_count < TRM_VERDICT_LISTED)
        out->culprits[out->culprit_count] = index;
    out->culprit_count++;
}

/* The step whose collectives those are: the one after those done, while it trains. */
static int64_t step_of(const struct trm_flight_view *rank)
{
    bool trains = rank->phase >= TRM_PHASE_DATA && rank->phase <= TRM_PHASE_OPTIMIZER;

    return rank->step < 0 ? -1 : rank->step + trains;
}

/* Fills in where `waiter` waits, and who else does. */
static void note_place(const struct trm_flight_view *ranks, int count, int waiter,
                       struct trm_verdict *out)
{
    int g = waiting_group(&ranks[waiter]);
    const struct trm_flight_lane_view *lane = &ranks[waiter].lanes[g];

    out->group = (enum trm_flight_group)g;
    out->number = lane->waiting;
    out->operation = lane->operation;
    out->step = step_of(&ranks[waiter]);
    out->waited_ms = lane->age_ms;
    for (int i = 0; i < count; i++) {
        int its = waiting_group(&ranks[i]);
        if (its < 0 || (out->culprit_count > 0 && i == out->culprits[0]))
            continue;
        if (its == g && share(&ranks[waiter], &ranks[i], g) &&
            ranks[i].lanes[g].waiting == lane->waiting) {
            if (out->waiter_count < TRM_VERDICT_LISTED)
                out->waiters[out->waiter_count] = i;
            out->waiter_count++;
        } else {
            out->other_waiter_count++;
        }
    }
}

/* The first culprit's place: where it is missed, else where it stands itself. */
static void place_culprit(const struct trm_flight_view *ranks, int count, struct trm_verdict *out)
{
    int at = out->culprits[0];
    int waiter = longest_waiter(ranks, count, at, waits_for);

    if (waiter < 0 && waiting_group(&ranks[at]) >= 0)
        waiter = at;
    if (waiter < 0)
        waiter = longest_waiter(ranks, count, at, waits_with);
    if (waiter >= 0)
        note_place(ranks, count, waiter, out);
    else
        out->step = step_of(&ranks[at]);
}

/* Of several, the one that has been at its phase for longest comes first. */
static void put_oldest_first(const struct trm_flight_view *ranks, struct trm_verdict *out)
{
    int listed = out->culprit_count < TRM_VERDICT_LISTED ? out->culprit_count : TRM_VERDICT_LISTED;
    int oldest = 0, index;

    for (int i = 1; i < listed; i++)
        if (ranks[out->culprits[i]].phase_age_ms > ranks[out->culprits[oldest]].phase_age_ms)
            oldest = i;
    index = out->culprits[oldest];
    memmove(&out->culprits[1], &out->culprits[0], (size_t)oldest * sizeof *out->culprits);
    out->culprits[0] = index;
}

typedef bool state_fn(const struct trm_flight_view *rank);

static bool died(const struct trm_flight_view *rank)
{
    return rank->process == 'X' && rank->state != TRM_FLIGHT_EXITED;
}

static bool failed(const struct trm_flight_view *rank)
{
    return rank->state == TRM_FLIGHT_EXITED && rank->exit_code != TRM_EXIT_OK &&
           rank->exit_code != TRM_EXIT_REQUEUE;
}

static bool left(const struct trm_flight_view *rank)
{
    return rank->state == TRM_FLIGHT_EXITED;
}

/* Processes that were stopped or are gone need no numbers to be guilty; those that died more so
 * than those that left because of it. */
static bool find_broken(const struct trm_flight_view *ranks, int count, struct trm_verdict *out)
{
    static const struct {
        state_fn *is;
        enum trm_verdict_kind kind;
    } states[] = {
        {died, TRM_VERDICT_GONE},
        {failed, TRM_VERDICT_GONE},
        {is_stopped, TRM_VERDICT_STOPPED},
        {left, TRM_VERDICT_GONE},
    };

    for (unsigned s = 0; s < sizeof states / sizeof *states && out->culprit_count == 0; s++) {
        out->kind = states[s].kind;
        for (int i = 0; i < count; i++)
            if (states[s].is(&ranks[i]))
                add_culprit(out, i);
    }
    return out->culprit_count > 0;
}

static bool all_left(const struct trm_flight_view *ranks, int count)
{
    int found = 0;

    for (int i = 0; i < count; i++)
        found += left(&ranks[i]);
    return found == count;
}

/* Does anybody wait for it to come, or with `arrived` in a group of its at all? */
static bool is_missed(struct trm_tally *tallies, int count, const struct trm_flight_view *rank,
                      bool arrived)
{
    for (int g = 0; g < TRM_FLIGHT_GROUPS; g++) {
        const struct trm_tally *tally = trm_tally_of(tallies, count, rank, g);
        if (tally && (arrived ? tally->waiters > 0 : tally->most_waiting > rank->lanes[g].entered))
            return true;
    }
    return false;
}

/* Those who wait for nobody and whom others miss, in I/O phases or not. */
static bool find_missed(const struct trm_flight_view *ranks, int count, struct trm_tally *tallies,
                        bool arrived, bool io, struct trm_verdict *out)
{
    for (int i = 0; i < count; i++)
        if (waiting_group(&ranks[i]) < 0 && trm_phase_is_io(ranks[i].phase) == io &&
            is_missed(tallies, count, &ranks[i], arrived))
            add_culprit(out, i);
    return out->culprit_count > 0;
}

/* Starting and ending MPI are meetings too, without numbers: who stands there waits for those who
 * do not. */
static bool is_meeting(const struct trm_flight_view *rank)
{
    return rank->phase == TRM_PHASE_COMM_INIT || rank->phase == TRM_PHASE_EXIT;
}

/* They meet again and again then, so nobody is late for more than a moment. */
static bool find_saving(const struct trm_flight_view *ranks, int count, struct trm_verdict *out)
{
    for (int i = 0; i < count; i++)
        if (ranks[i].phase != TRM_PHASE_SAVE)
            return false;
    out->kind = TRM_VERDICT_STORAGE;
    for (int i = 0; i < count; i++)
        add_culprit(out, i);
    put_oldest_first(ranks, out);
    out->step = step_of(&ranks[out->culprits[0]]);
    return true;
}

static bool find_still(const struct trm_flight_view *ranks, int count, struct trm_verdict *out)
{
    static const struct {
        enum trm_verdict_kind kind;
        bool io, meeting;
    } searches[] = {{TRM_VERDICT_STILL, false, false},
                    {TRM_VERDICT_STORAGE, true, false},
                    {TRM_VERDICT_STILL, false, true}};

    for (unsigned s = 0; s < sizeof searches / sizeof *searches && out->culprit_count == 0; s++) {
        out->kind = searches[s].kind;
        for (int i = 0; i < count; i++)
            if (waiting_group(&ranks[i]) < 0 && trm_phase_is_io(ranks[i].phase) == searches[s].io &&
                is_meeting(&ranks[i]) == searches[s].meeting)
                add_culprit(out, i);
    }
    return out->culprit_count > 0;
}

/* All wait. Somebody's late peers wait at other collectives, or are not in the list, or there are
 * none. */
static void judge_waiters(const struct trm_flight_view *ranks, int count, struct trm_tally *tallies,
                          struct trm_verdict *out)
{
    int oldest = 0;
    bool crossed = false, all_here = true;

    for (int i = 0; i < count; i++) {
        int g = waiting_group(&ranks[i]);
        const struct trm_flight_lane_view *lane = &ranks[i].lanes[g];
        const struct trm_tally *tally = trm_tally_of(tallies, count, &ranks[i], g);
        crossed = crossed || (tally && tally->least_entered < lane->waiting);
        all_here = all_here && (tally ? tally->members : 0) >= group_size(&ranks[i], g);
        if (lane->age_ms > ranks[oldest].lanes[waiting_group(&ranks[oldest])].age_ms)
            oldest = i;
    }
    out->kind = !all_here ? TRM_VERDICT_ELSEWHERE
                : crossed ? TRM_VERDICT_CROSSED
                          : TRM_VERDICT_STUCK;
    note_place(ranks, count, oldest, out);
}

void trm_verdict_find(const struct trm_flight_view *ranks, int count, struct trm_tally *scratch,
                      struct trm_verdict *out)
{
    static const struct {
        enum trm_verdict_kind kind;
        bool arrived, io;
    } searches[] = {
        {TRM_VERDICT_LATE, false, false},
        {TRM_VERDICT_STORAGE, false, true},
        {TRM_VERDICT_ABSENT, true, false},
        {TRM_VERDICT_STORAGE, true, true},
    };
    bool found;

    *out = (struct trm_verdict){.step = -1};
    if (all_left(ranks, count)) /* the end of a run, not a hang */
        return;
    found = find_broken(ranks, count, out);
    if (!found && find_saving(ranks, count, out))
        return;
    if (!found)
        trm_tally_fill(ranks, count, scratch);
    for (unsigned i = 0; i < sizeof searches / sizeof *searches && !found; i++) {
        out->kind = searches[i].kind;
        found = find_missed(ranks, count, scratch, searches[i].arrived, searches[i].io, out);
    }
    if (found || find_still(ranks, count, out)) {
        put_oldest_first(ranks, out);
        place_culprit(ranks, count, out);
    } else {
        judge_waiters(ranks, count, scratch, out);
    }
}
