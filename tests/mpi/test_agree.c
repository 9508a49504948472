/* One status for all ranks, whoever failed. */
#include "world.h"

#include <string.h>

/* Each set of failing ranks in turn, as bits. */
static void all_ranks_return_the_lowest_failed_ranks_words(void **state)
{
    struct trm_comm *world = *state;
    bool ok = true;
    for (int failing = 0; failing < 1 << world->size; failing++) {
        const int lowest = failing ? __builtin_ctz((unsigned)failing) : -1;
        struct trm_error err = {.text = "left over from before"};
        enum trm_status mine = TRM_OK;
        if (failing >> world->rank & 1)
            mine = trm_error_set(&err, world->rank % 2 ? TRM_ERR_IO : TRM_ERR_CORRUPT,
                                 "shard %d is gone", world->rank);
        char expected[64];
        int prefix = 0;
        if (world->size > 1)
            prefix = snprintf(expected, sizeof expected, "rank %d: ", lowest);
        snprintf(expected + prefix, sizeof expected - (size_t)prefix, "shard %d is gone", lowest);
        enum trm_status status = trm_agree(world, mine, &err);
        if (!failing)
            ok = ok && status == TRM_OK;
        else
            ok = ok && status == (lowest % 2 ? TRM_ERR_IO : TRM_ERR_CORRUPT) &&
                 err.status == status && strcmp(err.text, expected) == 0;
    }
    assert_on_all_ranks(world, ok);
}

static void a_failure_without_words_still_has_its_status(void **state)
{
    struct trm_comm *world = *state;
    const int last = world->size - 1;
    enum trm_status status = trm_agree(world, world->rank == last ? TRM_ERR_TIMEOUT : TRM_OK, NULL);
    assert_on_all_ranks(world, status == TRM_ERR_TIMEOUT);
}

static void any_is_true_when_one_rank_says_so(void **state)
{
    struct trm_comm *world = *state;
    bool ok = true;
    for (int who = -1; who < world->size; who++) {
        bool any = who < 0;
        ok = !trm_agree_any(world, world->rank == who, &any, NULL) && ok;
        ok = ok && any == (who >= 0);
    }
    assert_on_all_ranks(world, ok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_ranks_return_the_lowest_failed_ranks_words),
        cmocka_unit_test(a_failure_without_words_still_has_its_status),
        cmocka_unit_test(any_is_true_when_one_rank_says_so),
    };
    return cmocka_run_group_tests(tests, world_start, world_finish);
}
