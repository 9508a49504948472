#include "collectives/tally.h"

#include <string.h>

int trm_tally_waiting_group(const struct trm_flight_view *rank)
{
    for (int g = 0; g < TRM_FLIGHT_GROUPS; g++)
        if (rank->lanes[g].waiting > 0)
            return g;
    return -1;
}

/* Its place, or the free one where it belongs: of one kind there are no more communicators than
 * ranks, so a table of as many places never lacks one. */
static struct trm_tally *find(struct trm_tally *tallies, int count,
                              const struct trm_flight_view *rank, int group)
{
    struct trm_tally *table = tallies + (size_t)group * (size_t)count;
    int size = group == TRM_FLIGHT_WORLD ? 0 : rank->tensor_size;
    int number = group == TRM_FLIGHT_WORLD  ? 0
                 : size < 1                 ? 0
                 : group == TRM_FLIGHT_DATA ? rank->rank % size
                                            : rank->rank / size;

    if (group != TRM_FLIGHT_WORLD && size < 1)
        return NULL;
    for (int i = number % count;; i = i + 1 < count ? i + 1 : 0)
        if (table[i].members == 0 || (table[i].number == number && table[i].tensor_size == size)) {
            table[i].number = number;
            table[i].tensor_size = size;
            return &table[i];
        }
}

static void count_member(struct trm_tally *tally, const struct trm_flight_lane_view *lane)
{
    if (tally->members++ == 0 || lane->entered < tally->least_entered)
        tally->least_entered = lane->entered;
}

void trm_tally_fill(const struct trm_flight_view *ranks, int count, struct trm_tally *tallies)
{
    memset(tallies, 0, TRM_TALLY_PLACES(count) * sizeof *tallies);
    for (int i = 0; i < count; i++) {
        int waiting = trm_tally_waiting_group(&ranks[i]);
        for (int g = 0; g < TRM_FLIGHT_GROUPS; g++) {
            struct trm_tally *tally = find(tallies, count, &ranks[i], g);
            const struct trm_flight_lane_view *lane = &ranks[i].lanes[g];
            if (!tally)
                continue;
            count_member(tally, lane);
            tally->waiters += g == waiting;
            if (g == waiting && lane->waiting > tally->most_waiting)
                tally->most_waiting = lane->waiting;
        }
    }
}

const struct trm_tally *trm_tally_of(struct trm_tally *tallies, int count,
                                     const struct trm_flight_view *rank, int group)
{
    return find(tallies, count, rank, group);
}
