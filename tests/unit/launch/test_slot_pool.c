/* The memory slots that an agent holds for its ranks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/slot_head.h"
#include "launch/agent/slot_pool.h"

#define KIB 1024

static struct trm_slot_pool *new_pool(int64_t limit_bytes)
{
    struct trm_slot_pool *pool = NULL;
    assert_int_equal(trm_slot_pool_create(limit_bytes, &pool, NULL), TRM_OK);
    return pool;
}

struct answer {
    struct trm_attach_message reply;
    int fds[TRM_ATTACH_MAX_FDS];
    int count;
};

static struct answer ask(struct trm_slot_pool *pool, struct trm_attach_message request)
{
    struct answer answer;
    request.version = TRM_ATTACH_VERSION;
    request.sequence = 77;
    trm_slot_pool_answer(pool, &request, &answer.reply, answer.fds, &answer.count);
    assert_int_equal(answer.reply.sequence, 77);
    return answer;
}

static struct answer take(struct trm_slot_pool *pool, int64_t attempt, int count, int64_t bytes)
{
    return ask(pool, (struct trm_attach_message){.kind = TRM_ATTACH_SLOT_TAKE,
                                                 .attempt = attempt,
                                                 .count = count,
                                                 .bytes = bytes});
}

static struct answer list(struct trm_slot_pool *pool, int first)
{
    return ask(pool, (struct trm_attach_message){.kind = TRM_ATTACH_SLOT_LIST, .first = first});
}

static void settle(struct trm_slot_pool *pool, int64_t attempt)
{
    struct answer answer =
        ask(pool, (struct trm_attach_message){.kind = TRM_ATTACH_SETTLE, .attempt = attempt});
    assert_int_equal(answer.reply.kind, TRM_ATTACH_DONE);
}

/* What a rank does with a slot. */
static void set_state(int fd, int state)
{
    struct trm_slot_head *head =
        mmap(NULL, TRM_SLOT_HEAD_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(head != MAP_FAILED);
    atomic_store(&head->state, state);
    munmap(head, TRM_SLOT_HEAD_BYTES);
}

static void slots_are_as_large_as_asked_and_cannot_be_cut(void **state)
{
    (void)state;
    struct stat info;
    struct trm_slot_pool *pool = new_pool(1024 * KIB);
    struct answer taken = take(pool, 0, 3, 10 * KIB);
    assert_int_equal(taken.reply.kind, TRM_ATTACH_TAKEN);
    assert_int_equal(taken.count, 3);
    assert_int_equal(taken.reply.count, 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(fstat(taken.fds[i], &info), 0);
        assert_int_equal(info.st_size, 12 * KIB); /* whole pages */
        assert_int_not_equal(ftruncate(taken.fds[i], 100), 0);
        assert_int_not_equal(ftruncate(taken.fds[i], 100 * KIB), 0);
    }
    assert_int_equal(trm_slot_pool_bytes(pool), 36 * KIB);
    trm_slot_pool_destroy(pool);
}

static void nothing_is_taken_twice_in_an_attempt(void **state)
{
    (void)state;
    struct trm_slot_pool *pool = new_pool(1024 * KIB);
    struct answer a = take(pool, 1, 2, 8 * KIB), b = take(pool, 1, 2, 8 * KIB);
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++)
            assert_int_not_equal(a.fds[i], b.fds[j]);
    assert_int_equal(trm_slot_pool_count(pool), 4);
    trm_slot_pool_destroy(pool);
}

static void
the_next_attempt_gets_what_is_free_or_half_written_and_not_what_is_complete(void **state)
{
    (void)state;
    struct trm_slot_pool *pool = new_pool(1024 * KIB);
    struct answer first = take(pool, 1, 3, 8 * KIB);
    set_state(first.fds[0], TRM_SLOT_COMPLETE);
    set_state(first.fds[1], TRM_SLOT_WRITING);
    struct answer second = take(pool, 2, 2, 8 * KIB);
    assert_int_equal(second.count, 2);
    assert_int_equal(second.fds[0], first.fds[1]);
    assert_int_equal(second.fds[1], first.fds[2]);
    assert_int_equal(trm_slot_pool_count(pool), 3);
    /* Once it is freed by a rank that needs it no more, it is to be had as well. */
    set_state(first.fds[0], TRM_SLOT_FREE);
    struct answer third = take(pool, 2, 1, 8 * KIB);
    assert_int_equal(third.fds[0], first.fds[0]);
    trm_slot_pool_destroy(pool);
}

static void slots_of_other_sizes_are_left_or_given_back_where_room_is_needed(void **state)
{
    (void)state;
    struct trm_slot_pool *pool = new_pool(64 * KIB);
    take(pool, 1, 4, 12 * KIB);
    /* Too small, and then far too large, to be used for it. */
    struct answer larger = take(pool, 2, 1, 40 * KIB);
    assert_int_equal(larger.reply.kind, TRM_ATTACH_TAKEN);
    assert_int_equal(trm_slot_pool_bytes(pool), 40 * KIB);
    struct answer small = take(pool, 3, 1, 8 * KIB);
    assert_int_not_equal(small.fds[0], larger.fds[0]);
    assert_int_equal(trm_slot_pool_bytes(pool), 48 * KIB);
    trm_slot_pool_destroy(pool);
}

static void over_the_limit_all_is_refused_and_nothing_is_taken(void **state)
{
    (void)state;
    struct trm_slot_pool *pool = new_pool(64 * KIB);
    struct answer held = take(pool, 1, 2, 16 * KIB);
    set_state(held.fds[0], TRM_SLOT_COMPLETE);
    struct answer refused = take(pool, 2, 4, 16 * KIB);
    assert_int_equal(refused.reply.kind, TRM_ATTACH_REFUSED);
    assert_int_equal(refused.count, 0);
    assert_non_null(strstr(refused.reply.text, "this node's limit is 64 KiB"));
    /* What was complete is still there, and what was free can still be had, at the limit too. */
    assert_int_equal(list(pool, 0).count, 1);
    assert_int_equal(take(pool, 2, 3, 16 * KIB).count, 3);
    assert_int_equal(trm_slot_pool_bytes(pool), 64 * KIB);
    assert_int_equal(take(pool, 3, 3, 16 * KIB).count, 3);
    trm_slot_pool_destroy(pool);
}

static void complete_slots_are_listed_in_pages(void **state)
{
    (void)state;
    struct trm_slot_pool *pool = new_pool(8192 * KIB);
    int made[2 * TRM_ATTACH_MAX_FDS];
    for (int i = 0; i < 2; i++) {
        struct answer taken = take(pool, 1, TRM_ATTACH_MAX_FDS, 4 * KIB);
        memcpy(made + i * TRM_ATTACH_MAX_FDS, taken.fds, sizeof(taken.fds));
    }
    int complete[2 * TRM_ATTACH_MAX_FDS], count = 0;
    for (int i = 0; i < 2 * TRM_ATTACH_MAX_FDS; i++)
        if (i % 3 != 1) {
            set_state(made[i], TRM_SLOT_COMPLETE);
            complete[count++] = made[i];
        }
    int seen = 0;
    while (seen < count) {
        struct answer page = list(pool, seen);
        assert_int_equal(page.reply.kind, TRM_ATTACH_SLOTS);
        assert_int_equal(page.reply.total, count);
        assert_int_equal(page.reply.bytes, 2 * TRM_ATTACH_MAX_FDS * 4 * KIB);
        assert_true(page.count > 0 && page.count == page.reply.count);
        for (int i = 0; i < page.count; i++)
            assert_int_equal(page.fds[i], complete[seen++]);
    }
    assert_int_equal(list(pool, count).count, 0);
    trm_slot_pool_destroy(pool);
}

static void settling_gives_back_all_that_this_attempt_did_not_take(void **state)
{
    (void)state;
    struct trm_slot_pool *pool = new_pool(1024 * KIB);
    struct answer old = take(pool, 1, 3, 8 * KIB);
    set_state(old.fds[0], TRM_SLOT_COMPLETE);
    struct answer mine = take(pool, 2, 1, 8 * KIB);
    set_state(mine.fds[0], TRM_SLOT_COMPLETE);
    settle(pool, 2);
    assert_int_equal(trm_slot_pool_count(pool), 1);
    assert_int_equal(trm_slot_pool_bytes(pool), 8 * KIB);
    assert_int_equal(list(pool, 0).fds[0], mine.fds[0]);
    settle(pool, 3);
    assert_int_equal(trm_slot_pool_count(pool), 0);
    assert_int_equal(trm_slot_pool_bytes(pool), 0);
    trm_slot_pool_destroy(pool);
}

static void requests_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    struct trm_slot_pool *pool = new_pool(INT64_MAX);
    static const struct {
        int64_t attempt;
        int count;
        int64_t bytes;
    } bad[] = {{1, 0, 8 * KIB},         {1, -1, 8 * KIB}, {1, TRM_ATTACH_MAX_FDS + 1, 8 * KIB},
               {1, INT32_MAX, 8 * KIB}, {1, 1, 0},        {1, 1, -5},
               {1, 1, INT64_MAX},       {-1, 1, 8 * KIB}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct answer answer = take(pool, bad[i].attempt, bad[i].count, bad[i].bytes);
        assert_int_equal(answer.reply.kind, TRM_ATTACH_REFUSED);
        assert_int_equal(answer.count, 0);
    }
    assert_int_equal(list(pool, -7).count, 0);
    assert_int_equal(list(pool, INT32_MAX).count, 0);
    assert_int_equal(ask(pool, (struct trm_attach_message){.kind = 99}).reply.kind,
                     TRM_ATTACH_REFUSED);
    assert_int_equal(trm_slot_pool_count(pool), 0);
    trm_slot_pool_destroy(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots_are_as_large_as_asked_and_cannot_be_cut),
        cmocka_unit_test(nothing_is_taken_twice_in_an_attempt),
        cmocka_unit_test(
            the_next_attempt_gets_what_is_free_or_half_written_and_not_what_is_complete),
        cmocka_unit_test(slots_of_other_sizes_are_left_or_given_back_where_room_is_needed),
        cmocka_unit_test(over_the_limit_all_is_refused_and_nothing_is_taken),
        cmocka_unit_test(complete_slots_are_listed_in_pages),
        cmocka_unit_test(settling_gives_back_all_that_this_attempt_did_not_take),
        cmocka_unit_test(requests_that_make_no_sense_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
