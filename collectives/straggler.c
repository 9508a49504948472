#include "collectives/straggler.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/human.h"

struct history {
    int64_t step;                 /* of the newest look */
    int slow;                     /* looks in a row */
    double compute_ms, median_ms; /* their sums */
};

struct trm_straggler_watch {
    int rank_count, steps;
    double factor;
    struct history *ranks; /* [rank_count] */
    double *sorted;        /* [rank_count], scratch */
};

enum trm_status trm_straggler_create(int rank_count, double factor, int steps,
                                     struct trm_straggler_watch **out, struct trm_error *err)
{
    struct trm_straggler_watch *watch = calloc(1, sizeof *watch);

    TRM_ASSERT(rank_count >= 1 && factor > 1 && steps >= 1);
    if (watch) {
        watch->ranks = calloc((size_t)rank_count, sizeof *watch->ranks);
        watch->sorted = calloc((size_t)rank_count, sizeof *watch->sorted);
    }
    if (!watch || !watch->ranks || !watch->sorted) {
        trm_straggler_destroy(watch);
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory to compare %d ranks", rank_count);
    }
    watch->rank_count = rank_count;
    watch->factor = factor;
    watch->steps = steps;
    for (int i = 0; i < rank_count; i++)
        watch->ranks[i].step = -1;
    *out = watch;
    return TRM_OK;
}

void trm_straggler_destroy(struct trm_straggler_watch *watch)
{
    if (!watch)
        return;
    free(watch->ranks);
    free(watch->sorted);
    free(watch);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static bool is_known(const struct trm_straggler_watch *watch, const struct trm_flight_view *rank)
{
    return rank->state == TRM_FLIGHT_RUNNING && rank->rank >= 0 && rank->rank < watch->rank_count &&
           rank->compute_ms > 0;
}

/* The lower one of an even number: of two ranks, the slower stands out from the faster. */
static double find_median(struct trm_straggler_watch *watch, const struct trm_flight_view *ranks,
                          int count)
{
    int known = 0;

    for (int i = 0; i < count && known < watch->rank_count; i++)
        if (is_known(watch, &ranks[i]))
            watch->sorted[known++] = ranks[i].compute_ms;
    if (known < 2)
        return 0;
    qsort(watch->sorted, (size_t)known, sizeof *watch->sorted, compare);
    return watch->sorted[(known - 1) / 2];
}

int trm_straggler_observe(struct trm_straggler_watch *watch, const struct trm_flight_view *ranks,
                          int count, struct trm_straggler *found, int most)
{
    double median = find_median(watch, ranks, count);
    int told = 0;

    for (int i = 0; i < count && median > 0; i++) {
        const struct trm_flight_view *rank = &ranks[i];
        struct history *its = is_known(watch, rank) ? &watch->ranks[rank->rank] : NULL;
        if (!its || rank->step == its->step)
            continue;
        its->step = rank->step;
        if (rank->compute_ms <= watch->factor * median) {
            its->slow = 0;
            its->compute_ms = its->median_ms = 0;
            continue;
        }
        its->slow++;
        its->compute_ms += rank->compute_ms;
        its->median_ms += median;
        if (its->slow != watch->steps)
            continue;
        if (told < most)
            found[told] = (struct trm_straggler){.rank = rank->rank,
                                                 .step = rank->step,
                                                 .steps = its->slow,
                                                 .compute_ms = its->compute_ms / its->slow,
                                                 .median_ms = its->median_ms / its->slow,
                                                 .ratio = its->compute_ms / its->median_ms};
        told++;
    }
    return told;
}

void trm_straggler_describe(const struct trm_straggler *straggler, const char *node, char *text,
                            size_t text_bytes)
{
    char its[32], median[32];

    snprintf(text, text_bytes,
             "rank %d%s%s slows all down: it computes %.1f times as long as the median (%s, and "
             "not %s) for %d steps",
             straggler->rank, node ? " on " : "", node ? node : "", straggler->ratio,
             trm_human_duration(its, sizeof its, straggler->compute_ms / 1e3),
             trm_human_duration(median, sizeof median, straggler->median_ms / 1e3),
             straggler->steps);
}
