/* Copies lie in other failure domains, and nobody has more of them than it must. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "checkpoint/parallel/partner_map.h"

#define RANKS_MAX 64

/* Asserts what holds for any domains; returns how many copies the busiest rank has. */
static int check(const uint64_t *domains, int size)
{
    int partners[RANKS_MAX], held[RANKS_MAX] = {0}, most = 0, largest = 0;
    assert_int_equal(trm_partner_map(domains, size, partners, NULL), TRM_OK);
    for (int a = 0; a < size; a++) {
        int alike = 0;
        for (int b = 0; b < size; b++)
            alike += domains[a] == domains[b];
        largest = alike > largest ? alike : largest;
    }
    for (int rank = 0; rank < size; rank++) {
        if (largest == size) {
            assert_int_equal(partners[rank], -1);
            continue;
        }
        assert_in_range(partners[rank], 0, size - 1);
        assert_true(domains[partners[rank]] != domains[rank]);
        held[partners[rank]]++;
    }
    for (int rank = 0; rank < size; rank++)
        most = held[rank] > most ? held[rank] : most;
    int others = size - largest;
    int needed = others == 0 ? 0 : largest > others ? (largest + others - 1) / others : 1;
    assert_int_equal(most, needed);
    return most;
}

static void every_division_of_up_to_7_ranks_into_domains_is_spread_evenly(void **state)
{
    (void)state;
    for (int size = 1; size <= 7; size++) {
        uint64_t domains[7] = {0};
        int total = 1;
        for (int i = 0; i < size; i++)
            total *= size;
        for (int code = 0; code < total; code++) {
            int rest = code;
            for (int i = 0; i < size; i++, rest /= size)
                domains[i] = UINT64_MAX - (uint64_t)(rest % size) * 977;
            check(domains, size);
        }
    }
}

static void equal_nodes_keep_the_copies_of_their_neighbour(void **state)
{
    (void)state;
    uint64_t domains[RANKS_MAX];
    int partners[RANKS_MAX];
    for (int rank = 0; rank < RANKS_MAX; rank++)
        domains[rank] = (uint64_t)(9 - rank / 8); /* numbers say nothing about the order */
    assert_int_equal(check(domains, RANKS_MAX), 1);
    assert_int_equal(trm_partner_map(domains, RANKS_MAX, partners, NULL), TRM_OK);
    for (int rank = 0; rank < RANKS_MAX; rank++)
        assert_int_equal(partners[rank], (rank + 8) % RANKS_MAX);
}

static void a_lonely_rank_keeps_what_all_others_of_one_node_have(void **state)
{
    (void)state;
    const uint64_t domains[] = {5, 5, 5, 5, 7};
    int partners[5];
    assert_int_equal(check(domains, 5), 4);
    assert_int_equal(trm_partner_map(domains, 5, partners, NULL), TRM_OK);
    for (int rank = 0; rank < 4; rank++)
        assert_int_equal(partners[rank], 4);
    assert_int_equal(partners[4], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_division_of_up_to_7_ranks_into_domains_is_spread_evenly),
        cmocka_unit_test(equal_nodes_keep_the_copies_of_their_neighbour),
        cmocka_unit_test(a_lonely_rank_keeps_what_all_others_of_one_node_have),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
