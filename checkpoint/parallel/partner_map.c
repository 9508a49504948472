#include "checkpoint/parallel/partner_map.h"

#include <stdbool.h>
#include <stdlib.h>

/* A rank in the line. */
struct place {
    int rank;
    int order; /* of its domain, by the lowest rank in it */
    uint64_t domain;
};

static int by_domain_then_rank(const void *left, const void *right)
{
    const struct place *a = left, *b = right;
    if (a->domain != b->domain)
        return a->domain < b->domain ? -1 : 1;
    return a->rank - b->rank;
}

/* Domains in the order of their lowest ranks, so that neighbours stay neighbours. */
static int by_order_then_rank(const void *left, const void *right)
{
    const struct place *a = left, *b = right;
    return a->order != b->order ? a->order - b->order : a->rank - b->rank;
}

/* Lines the ranks up; the largest domain becomes [*begin, *begin + *count). */
static void line_up(struct place *places, int size, int *begin, int *count)
{
    qsort(places, (size_t)size, sizeof(*places), by_domain_then_rank);
    for (int i = 0; i < size; i++) {
        bool same = i > 0 && places[i].domain == places[i - 1].domain;
        places[i].order = same ? places[i - 1].order : places[i].rank;
    }
    qsort(places, (size_t)size, sizeof(*places), by_order_then_rank);
    *begin = *count = 0;
    for (int i = 0, first = 0; i < size; i++) {
        if (places[i].order != places[first].order)
            first = i;
        if (i - first + 1 > *count) {
            *begin = first;
            *count = i - first + 1;
        }
    }
}

enum trm_status trm_partner_map(const uint64_t *domains, int size, int *partners,
                                struct trm_error *err)
{
    struct place *places = malloc((size_t)size * sizeof(*places) + 1);
    int begin, count;
    if (places == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for %d partners", size);
    for (int rank = 0; rank < size; rank++)
        places[rank] = (struct place){.rank = rank, .domain = domains[rank]};
    line_up(places, size, &begin, &count);
    int others = size - count;
    for (int p = 0; p < size; p++) {
        int partner = (p + count) % size;
        if (count > others) {
            /* Places outside of the largest domain, counted from behind it. */
            int inside = p - begin;
            bool largest = inside >= 0 && inside < count;
            int outside = (p - begin - count + size) % size;
            if (largest)
                partner = others > 0 ? (begin + count + inside % others) % size : -1;
            else
                partner = begin + outside * count / others;
        }
        partners[places[p].rank] = partner < 0 ? -1 : places[partner].rank;
    }
    free(places);
    return TRM_OK;
}
