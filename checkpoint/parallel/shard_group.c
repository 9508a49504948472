#include "checkpoint/parallel/shard_group.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "checkpoint/placement.h"
#include "collectives/agree.h"

/* Where a slice of a member went. */
struct place {
    int64_t row, offset;
};

struct rank_of_node {
    uint64_t node;
    int rank;
};

static int by_node(const void *left, const void *right)
{
    const struct rank_of_node *a = left, *b = right;
    if (a->node != b->node)
        return a->node < b->node ? -1 : 1;
    return a->rank < b->rank ? -1 : a->rank > b->rank;
}

/* Ranks [begin, end) of the list that share a shard with the one at `at`. */
static void find_bounds(const struct rank_of_node *ranks, int size, int at, int group_size,
                        int *begin, int *end)
{
    int first = at, place;
    while (first > 0 && ranks[first - 1].node == ranks[at].node)
        first--;
    place = (at - first) / group_size * group_size;
    *begin = first + place;
    for (*end = *begin; *end < size && *end - *begin < group_size; ++*end)
        if (ranks[*end].node != ranks[at].node)
            break;
}

/* Shards are numbered by their leaders. */
static void number_shards(const struct rank_of_node *ranks, int size, int group_size,
                          struct trm_shard_group *group)
{
    int place = 0;
    for (int i = 0; i < size; i++) {
        place = i > 0 && ranks[i].node == ranks[i - 1].node ? (place + 1) % group_size : 0;
        group->shard_count += place == 0;
        group->shard += place == 0 && ranks[i].rank < group->members[0];
    }
}

enum trm_status trm_shard_group_find(const uint64_t *nodes, int size, int rank, int group_size,
                                     struct trm_shard_group *out, struct trm_error *err)
{
    struct trm_shard_group group = {0};
    int at = 0, begin = 0, end = 0;
    if (group_size == 0)
        group_size = size > TRM_SHARD_GROUP_ALONE_MAX ? size : 1;
    struct rank_of_node *ranks = malloc((size_t)size * sizeof(*ranks));
    group.members = malloc((size_t)size * sizeof(*group.members));
    if (ranks == NULL || group.members == NULL) {
        free(ranks);
        trm_shard_group_destroy(&group);
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for %d ranks", size);
    }
    for (int i = 0; i < size; i++)
        ranks[i] = (struct rank_of_node){nodes[i], i};
    qsort(ranks, (size_t)size, sizeof(*ranks), by_node);
    while (ranks[at].rank != rank)
        at++;
    find_bounds(ranks, size, at, group_size, &begin, &end);
    for (int i = begin; i < end; i++)
        group.members[group.member_count++] = ranks[i].rank;
    group.index = at - begin;
    number_shards(ranks, size, group_size, &group);
    free(ranks);
    *out = group;
    return TRM_OK;
}

void trm_shard_group_destroy(struct trm_shard_group *group)
{
    if (group == NULL)
        return;
    free(group->members);
    free(group->rows);
    free(group->counts);
    free(group->all_rows);
    trm_slice_set_destroy(&group->table);
    *group = (struct trm_shard_group){0};
}

bool trm_shard_group_leads(const struct trm_shard_group *group)
{
    return group->index == 0;
}

enum trm_status trm_exchange_agreed(struct trm_comm *comm, enum trm_status status,
                                    const struct trm_message *sends, int send_count,
                                    const struct trm_message *receives, int receive_count,
                                    struct trm_error *err)
{
    struct trm_request *request = NULL;
    if (status == TRM_OK)
        status = trm_request_create(comm, send_count + receive_count, &request, err);
    status = trm_agree(comm, status, err);
    if (status == TRM_OK)
        status = trm_comm_exchange(comm, sends, send_count, receives, receive_count, request, err);
    if (status == TRM_OK)
        status = trm_request_wait(request, err);
    trm_request_destroy(request);
    return status;
}

/* Collective; agreed. Data of `each` bytes a slice between the leaders, where it lies in `all`, one
 * member after the other, and their members, where it is `mine`: to the leaders or from them. */
static enum trm_status pass(struct trm_comm *comm, const struct trm_shard_group *group,
                            enum trm_status status, bool to_leaders, size_t each, void *mine,
                            int64_t mine_count, void *all, struct trm_error *err)
{
    bool leads = trm_shard_group_leads(group);
    int count = leads ? group->member_count - 1 : 1;
    struct trm_message *messages = calloc((size_t)group->member_count, sizeof(*messages));
    if (messages == NULL)
        status = trm_error_set(err, TRM_ERR_MEMORY, "out of memory for %d messages", count);
    if (status == TRM_OK && !leads)
        messages[0] = (struct trm_message){group->members[0], mine, (size_t)mine_count * each};
    if (status == TRM_OK && leads) {
        char *next = (char *)all + (size_t)group->counts[0] * each;
        for (int m = 1; m < group->member_count; m++) {
            size_t bytes = (size_t)group->counts[m] * each;
            messages[m - 1] = (struct trm_message){group->members[m], next, bytes};
            next += bytes;
        }
        memcpy(to_leaders ? all : mine, to_leaders ? mine : all, (size_t)mine_count * each);
    }
    if (leads == to_leaders)
        status = trm_exchange_agreed(comm, status, NULL, 0, messages, count, err);
    else
        status = trm_exchange_agreed(comm, status, messages, count, NULL, 0, err);
    free(messages);
    return status;
}

/* What a leader makes room for, once it knows how much. */
static enum trm_status allocate(struct trm_shard_group *group, const int64_t *counts,
                                struct place **places, struct trm_error *err)
{
    int64_t total = 0;
    group->counts = calloc((size_t)group->member_count, sizeof(*group->counts));
    for (int m = 0; group->counts != NULL && m < group->member_count; m++)
        total += group->counts[m] = counts[group->members[m]];
    group->table.count = total;
    group->table.slices = malloc((size_t)total * sizeof(*group->table.slices) + 1);
    group->all_rows = malloc((size_t)total * sizeof(*group->all_rows) + 1);
    *places = malloc((size_t)total * sizeof(**places) + 1);
    if (group->counts == NULL || group->table.slices == NULL || group->all_rows == NULL ||
        *places == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for a table of %lld slices",
                             (long long)total);
    return TRM_OK;
}

/* The leader's: sorts the table; places[i] is where slice i of the members went. */
static enum trm_status sort_table(struct trm_shard_group *group, struct place *places,
                                  struct trm_error *err)
{
    struct trm_slice_set *table = &group->table;
    int64_t *origins = malloc((size_t)table->count * sizeof(*origins) + 1);
    if (origins == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for a table of %lld slices",
                             (long long)table->count);
    enum trm_status status = trm_placement_make(table->slices, group->counts, group->member_count,
                                                origins, table->elements, err);
    for (int64_t row = 0; status == TRM_OK && row < table->count; row++)
        places[origins[row]] = (struct place){row, table->slices[row].offset};
    free(origins);
    return status;
}

/* A slice of this rank's, for sorting. */
struct moved {
    struct trm_slice slice;
    const void *data;
    int64_t row;
};

static int by_row(const void *left, const void *right)
{
    const struct moved *a = left, *b = right;
    return a->row < b->row ? -1 : a->row > b->row;
}

/* In the order of the shard's table. */
static enum trm_status sort_mine(struct trm_shard_group *group, struct trm_slice_set *mine,
                                 const struct place *places, struct trm_error *err)
{
    size_t count = (size_t)mine->count;
    struct moved *moved = malloc(count * sizeof(*moved) + 1);
    group->rows = malloc(count * sizeof(*group->rows) + 1);
    if (moved == NULL || group->rows == NULL) {
        free(moved);
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for %zu slices", count);
    }
    for (size_t i = 0; i < count; i++) {
        moved[i] = (struct moved){mine->slices[i], mine->data[i], places[i].row};
        moved[i].slice.offset = places[i].offset;
    }
    qsort(moved, count, sizeof(*moved), by_row);
    for (size_t i = 0; i < count; i++) {
        mine->slices[i] = moved[i].slice;
        mine->data[i] = moved[i].data;
        group->rows[i] = moved[i].row;
    }
    free(moved);
    return TRM_OK;
}

enum trm_status trm_shard_group_place(struct trm_comm *comm, struct trm_shard_group *group,
                                      struct trm_slice_set *mine, struct trm_error *err)
{
    struct place *places = malloc((size_t)mine->count * sizeof(*places) + 1), *all = NULL;
    int64_t *counts = calloc((size_t)comm->size, sizeof(*counts));
    bool leads = trm_shard_group_leads(group);
    enum trm_status status = TRM_OK;
    if (places == NULL || counts == NULL)
        status = trm_error_set(err, TRM_ERR_MEMORY, "out of memory for placing %lld slices",
                               (long long)mine->count);
    status = trm_agree(comm, status, err);
    if (status == TRM_OK)
        status = trm_comm_all_gather(comm, &mine->count, counts, sizeof(*counts), NULL, err);
    if (status != TRM_OK)
        goto cleanup;
    if (leads)
        status = allocate(group, counts, &all, err);
    status = pass(comm, group, status, true, sizeof(*mine->slices), mine->slices, mine->count,
                  group->table.slices, err);
    if (status != TRM_OK)
        goto cleanup;
    if (leads)
        status = sort_table(group, all, err);
    status = pass(comm, group, status, false, sizeof(*places), places, mine->count, all, err);
    if (status == TRM_OK)
        status = sort_mine(group, mine, places, err);
    status = pass(comm, group, status, true, sizeof(*group->rows), group->rows, mine->count,
                  group->all_rows, err);
cleanup:
    free(places);
    free(all);
    free(counts);
    return status;
}

enum trm_status trm_shard_group_tell(struct trm_comm *comm, const struct trm_shard_group *group,
                                     struct trm_ckpt_file *file, struct trm_error *err)
{
    bool leads = trm_shard_group_leads(group);
    int count = leads ? group->member_count - 1 : 1;
    enum trm_status status = TRM_OK;
    struct trm_message *messages = calloc((size_t)group->member_count, sizeof(*messages));
    if (messages == NULL)
        status = trm_error_set(err, TRM_ERR_MEMORY, "out of memory for %d messages", count);
    for (int i = 0; status == TRM_OK && i < count; i++)
        messages[i] = (struct trm_message){group->members[leads ? i + 1 : 0], file, sizeof(*file)};
    if (leads)
        status = trm_exchange_agreed(comm, status, messages, count, NULL, 0, err);
    else
        status = trm_exchange_agreed(comm, status, NULL, 0, messages, count, err);
    free(messages);
    return status;
}

enum trm_status trm_shard_group_collect(struct trm_comm *comm, struct trm_shard_group *group,
                                        const struct trm_slice_set *mine, struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    int64_t total = group->table.count;
    uint64_t *checksums = malloc((size_t)mine->count * sizeof(*checksums) + 1);
    uint64_t *all = malloc((size_t)total * sizeof(*all) + 1);
    if (checksums == NULL || all == NULL)
        status = trm_error_set(err, TRM_ERR_MEMORY, "out of memory for %lld checksums",
                               (long long)(total + mine->count));
    for (int64_t i = 0; status == TRM_OK && i < mine->count; i++)
        checksums[i] = mine->slices[i].checksum;
    status = pass(comm, group, status, true, sizeof(*checksums), checksums, mine->count, all, err);
    for (int64_t i = 0; status == TRM_OK && i < total; i++) {
        TRM_ASSERT(group->all_rows[i] >= 0 && group->all_rows[i] < total);
        group->table.slices[group->all_rows[i]].checksum = all[i];
    }
    free(checksums);
    free(all);
    return status;
}
