/* The communicator of one rank: every operation is done when it returns. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "collectives/agree.h"
#include "collectives/backend.h"

static int make_self(void **state)
{
    return trm_comm_self((struct trm_comm **)state, NULL);
}

static int destroy_self(void **state)
{
    trm_comm_destroy(*state);
    return 0;
}

static void self_is_rank_0_of_1(void **state)
{
    const struct trm_comm *comm = *state;
    assert_int_equal(comm->rank, 0);
    assert_int_equal(comm->size, 1);
    assert_string_equal(comm->backend->name, "self");
}

/* With and without a request, as callers do not know which backend they have. */
static void self_copies_blocks_to_their_one_place(void **state)
{
    struct trm_comm *comm = *state;
    struct trm_request *requests[2] = {NULL, NULL};
    assert_int_equal(trm_request_create(comm, 0, &requests[1], NULL), TRM_OK);
    for (int i = 0; i < 2; i++) {
        struct trm_request *r = requests[i];
        const char from[] = "three banks";
        char to[sizeof from] = "";
        assert_int_equal(trm_comm_all_gather(comm, from, to, sizeof from, r, NULL), TRM_OK);
        assert_int_equal(trm_request_wait(r, NULL), TRM_OK);
        assert_string_equal(to, from);
        assert_int_equal(trm_comm_all_gather(comm, to, to, sizeof to, r, NULL), TRM_OK);
        assert_string_equal(to, from);

        memset(to, 0, sizeof to);
        assert_int_equal(trm_comm_all_to_all(comm, from, to, sizeof from, r, NULL), TRM_OK);
        assert_int_equal(trm_request_wait(r, NULL), TRM_OK);
        assert_string_equal(to, from);

        const float sent[2] = {1.5f, -2.0f};
        float mine[2] = {0};
        assert_int_equal(trm_comm_fastest_reduce_scatter(comm, sent, mine, 2, TRM_F32, r, NULL),
                         TRM_OK);
        assert_memory_equal(mine, sent, sizeof sent);
    }
    trm_request_destroy(requests[1]);
}

static void self_leaves_reductions_and_broadcasts_as_they_are(void **state)
{
    struct trm_comm *comm = *state;
    int64_t number = 42;
    assert_int_equal(trm_comm_all_reduce(comm, &number, 1, TRM_SUM_I64, NULL, NULL), TRM_OK);
    assert_int_equal(trm_comm_broadcast(comm, &number, sizeof number, 0, NULL, NULL), TRM_OK);
    assert_int_equal(trm_comm_barrier(comm, NULL, NULL), TRM_OK);
    assert_int_equal(trm_comm_exchange(comm, NULL, 0, NULL, 0, NULL, NULL), TRM_OK);
    double sum = 0.1;
    assert_int_equal(trm_comm_fastest_all_reduce(comm, &sum, 1, TRM_F64, NULL, NULL), TRM_OK);
    assert_int_equal(number, 42);
    assert_true(sum == 0.1);
}

static void fastest_sums_refuse_types_a_library_cannot_add(void **state)
{
    struct trm_error err = {0};
    int32_t data[1] = {1};
    assert_int_equal(trm_comm_fastest_all_reduce(*state, data, 1, TRM_I32, NULL, &err),
                     TRM_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "int32"));
}

static void self_splits_into_self(void **state)
{
    struct trm_comm *part = NULL;
    assert_int_equal(trm_comm_split(*state, 3, 7, &part, NULL), TRM_OK);
    assert_int_equal(part->size, 1);
    trm_comm_destroy(part);
}

static void agree_on_one_rank_keeps_status_and_words(void **state)
{
    struct trm_error err;
    trm_error_set(&err, TRM_ERR_IO, "the disk is full");
    assert_int_equal(trm_agree(*state, TRM_ERR_IO, &err), TRM_ERR_IO);
    assert_string_equal(err.text, "the disk is full");
    assert_int_equal(trm_agree(*state, TRM_OK, &err), TRM_OK);
    bool any = false;
    assert_int_equal(trm_agree_any(*state, true, &any, &err), TRM_OK);
    assert_true(any);
}

static void destroy_takes_null(void **state)
{
    (void)state;
    trm_comm_destroy(NULL);
    trm_request_destroy(NULL);
    assert_int_equal(trm_request_wait(NULL, NULL), TRM_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(self_is_rank_0_of_1),
        cmocka_unit_test(self_copies_blocks_to_their_one_place),
        cmocka_unit_test(self_leaves_reductions_and_broadcasts_as_they_are),
        cmocka_unit_test(fastest_sums_refuse_types_a_library_cannot_add),
        cmocka_unit_test(self_splits_into_self),
        cmocka_unit_test(agree_on_one_rank_keeps_status_and_words),
        cmocka_unit_test(destroy_takes_null),
    };
    return cmocka_run_group_tests(tests, make_self, destroy_self);
}
