/* Who writes a shard together, and where in it. */
#include "fixture.h"

#include <stdlib.h>
#include <string.h>

#include "checkpoint/parallel/shard_group.h"
#include "checkpoint/placement.h"

/* Ranks by machine, and the groups that come of it: the leader of each rank. */
static const struct grouping {
    const char *nodes;
    int group_size;
    const char *leaders; /* "aab": ranks 0 and 1 are led by rank 0, rank 2 by itself */
} groupings[] = {
    {"x", 0, "a"},           {"xxxx", 0, "abcd"}, /* few ranks */
    {"xxxx", 1, "abcd"},     {"xxxx", 4, "aaaa"},   {"xxxx", 99, "aaaa"},
    {"xxxx", 3, "aaad"},     {"xxyy", 4, "aacc"},                        /* not beyond a machine */
    {"xxxyyy", 2, "aacddf"}, {"yyyxx", 2, "aacdd"}, {"xyxy", 2, "abab"}, /* dealt round */
    {"xyxyxy", 2, "ababef"},
};

static void find(const char *nodes, int size, int group_size, int rank,
                 struct trm_shard_group *group)
{
    struct trm_error err = {0};
    uint64_t ids[512];
    for (int i = 0; i < size; i++)
        ids[i] = 0xfedcba9876543210u * (unsigned char)nodes[i];
    assert_ok(trm_shard_group_find(ids, size, rank, group_size, group, &err), err);
}

static void neighbours_on_a_machine_share_a_shard_and_no_others_do(void **state)
{
    (void)state;
    for (size_t g = 0; g < sizeof(groupings) / sizeof(*groupings); g++) {
        const struct grouping *grouping = &groupings[g];
        int size = (int)strlen(grouping->nodes), shards = 0;
        char letters[16] = "";
        for (int rank = 0; rank < size; rank++)
            if (strchr(letters, grouping->leaders[rank]) == NULL)
                letters[shards++] = grouping->leaders[rank];
        for (int rank = 0; rank < size; rank++) {
            struct trm_shard_group group;
            int index = 0, count = 0, leader = -1;
            find(grouping->nodes, size, grouping->group_size, rank, &group);
            for (int other = 0; other < size; other++)
                if (grouping->leaders[other] == grouping->leaders[rank]) {
                    leader = leader < 0 ? other : leader;
                    index += other < rank;
                    assert_int_equal(group.members[count++], other);
                }
            assert_int_equal(group.member_count, count);
            assert_int_equal(group.members[0], leader);
            assert_int_equal(group.index, index);
            assert_int_equal(trm_shard_group_leads(&group), rank == leader);
            assert_int_equal(group.shard_count, shards);
            /* Shards are numbered by their leaders. */
            assert_int_equal(group.shard, strchr(letters, grouping->leaders[rank]) - letters);
            trm_shard_group_destroy(&group);
        }
    }
}

static void in_a_large_run_each_machine_writes_one_shard_unless_told(void **state)
{
    (void)state;
    char nodes[512];
    for (int i = 0; i < 512; i++)
        nodes[i] = (char)(1 + i / 8);
    for (int size = 16; size <= 512; size *= 2) {
        struct trm_shard_group group;
        bool large = size > TRM_SHARD_GROUP_ALONE_MAX;
        find(nodes, size, 0, size - 1, &group);
        assert_int_equal(group.shard_count, large ? size / 8 : size);
        assert_int_equal(group.member_count, large ? 8 : 1);
        trm_shard_group_destroy(&group);
        find(nodes, size, 4, size - 1, &group);
        assert_int_equal(group.shard_count, size / 4);
        trm_shard_group_destroy(&group);
    }
}

/* The slices of all ranks of a layout, one rank after the other, and as they are placed. */
struct placed {
    struct trm_slice before[4096], after[4096];
    int64_t counts[64], origins[4096], elements[TRM_KIND_COUNT], count;
    int ranks;
};

static void place(int tensor_size, int data_size, struct placed *placed)
{
    struct trm_error err = {0};
    *placed = (struct placed){.ranks = tensor_size * data_size};
    for (int rank = 0; rank < placed->ranks; rank++) {
        struct fixture_pieces pieces = fixture_pieces_of(tensor_size, data_size, rank, 1);
        struct trm_slice_set set;
        assert_ok(trm_slice_set_cut(fixture_tensors, FIXTURE_TENSORS, pieces.pieces, pieces.count,
                                    &set, &err),
                  err);
        placed->counts[rank] = set.count;
        memcpy(&placed->before[placed->count], set.slices, (size_t)set.count * sizeof(*set.slices));
        placed->count += set.count;
        trm_slice_set_destroy(&set);
        fixture_pieces_free(&pieces);
    }
    memcpy(placed->after, placed->before, sizeof(placed->after));
    assert_ok(trm_placement_make(placed->after, placed->counts, placed->ranks, placed->origins,
                                 placed->elements, &err),
              err);
}

static void every_slice_has_a_place_of_its_own_and_none_is_left(void **state)
{
    (void)state;
    static struct placed placed;
    for (int tensor_size = 1; tensor_size <= 3; tensor_size++)
        for (int data_size = 1; data_size <= 7; data_size++) {
            bool seen[4096] = {false};
            int64_t next[TRM_KIND_COUNT] = {0};
            place(tensor_size, data_size, &placed);
            for (int64_t row = 0; row < placed.count; row++) {
                struct trm_slice *slice = &placed.after[row];
                assert_in_range(placed.origins[row], 0, placed.count - 1);
                assert_false(seen[placed.origins[row]]);
                seen[placed.origins[row]] = true;
                /* Forwards, without gaps. */
                assert_true(row == 0 || slice[-1].kind <= slice->kind);
                assert_int_equal(slice->offset, next[slice->kind]);
                next[slice->kind] += trm_rect_elements(slice->rect);
                const struct trm_slice *from = &placed.before[placed.origins[row]];
                assert_int_equal(slice->tensor, from->tensor);
                assert_int_equal(slice->kind, from->kind);
                assert_memory_equal(&slice->rect, &from->rect, sizeof(from->rect));
            }
            assert_memory_equal(next, placed.elements, sizeof(next));
        }
}

static void a_tensor_cut_along_rows_lies_whole_and_in_order(void **state)
{
    (void)state;
    static struct placed placed;
    place(1, 7, &placed);
    for (int64_t row = 0; row < placed.count; row++) {
        const struct trm_slice *slice = &placed.after[row], *last = slice - 1;
        int64_t columns = fixture_tensors[slice->tensor].columns;
        bool first = row == 0 || last->tensor != slice->tensor || last->kind != slice->kind;
        int64_t flat = slice->rect.row * columns + slice->rect.column;
        if (first)
            assert_int_equal(flat, 0);
        else
            assert_int_equal(flat, last->rect.row * columns + last->rect.column +
                                       trm_rect_elements(last->rect));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(neighbours_on_a_machine_share_a_shard_and_no_others_do),
        cmocka_unit_test(in_a_large_run_each_machine_writes_one_shard_unless_told),
        cmocka_unit_test(every_slice_has_a_place_of_its_own_and_none_is_left),
        cmocka_unit_test(a_tensor_cut_along_rows_lies_whole_and_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
