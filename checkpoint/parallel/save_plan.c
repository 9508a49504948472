#include "checkpoint/parallel/save_plan.h"

#include <stdlib.h>
#include <string.h>

#include "collectives/agree.h"

struct trm_catalog trm_save_plan_catalog(const struct trm_save_plan *plan,
                                         const struct trm_ckpt_state *state, uint64_t nonce,
                                         struct trm_ckpt_file *files, int file_count)
{
    return (struct trm_catalog){
        .state = *state,
        .tensor_count = plan->tensor_count,
        .tensors = plan->tensors,
        .shard_count = plan->group.shard_count,
        .files = files,
        .file_count = file_count,
        .kinds = {true, true, true},
        .nonce = nonce,
    };
}

/* Collective: a manifest of so many slices is refused by every reader. */
static enum trm_status count_slices(struct trm_comm *comm, const struct trm_save_plan *plan,
                                    struct trm_error *err)
{
    int64_t total = plan->live.count;
    enum trm_status status = trm_comm_all_reduce(comm, &total, 1, TRM_SUM_I64, NULL, err);
    if (status == TRM_OK && total > TRM_CKPT_MAX_SLICES)
        status = trm_error_set(err, TRM_ERR_UNSUPPORTED,
                               "a checkpoint of %lld slices, and %d are the most: let each rank "
                               "own fewer and longer parts of tensors (larger buckets), or use "
                               "fewer ranks",
                               (long long)total, TRM_CKPT_MAX_SLICES);
    return status;
}

/* Collective: the pieces of all ranks together are every tensor in every kind, exactly once. */
static enum trm_status check_cover(struct trm_comm *comm, const struct trm_save_plan *plan,
                                   const struct trm_ckpt_piece *pieces, int piece_count,
                                   struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    size_t count = (size_t)plan->tensor_count * TRM_KIND_COUNT;
    size_t words = sizeof(struct trm_cover) / sizeof(int64_t);
    struct trm_cover *covers = calloc(count, sizeof(*covers));
    if (covers == NULL)
        status =
            trm_error_set(err, TRM_ERR_MEMORY, "out of memory for %d tensors", plan->tensor_count);
    status = trm_agree(comm, status, err);
    if (status != TRM_OK)
        goto cleanup;
    for (int p = 0; p < piece_count; p++) {
        const struct trm_ckpt_piece *piece = &pieces[p];
        trm_cover_add(&covers[(size_t)piece->tensor * TRM_KIND_COUNT + piece->kind],
                      plan->tensors[piece->tensor].columns, piece->rect);
    }
    /* Sums modulo 2^64: added as integers, they wrap as they do in one process. */
    status = trm_comm_all_reduce(comm, covers, count * words, TRM_SUM_I64, NULL, err);
    for (int t = 0; status == TRM_OK && t < plan->tensor_count; t++) {
        const struct trm_ckpt_tensor *tensor = &plan->tensors[t];
        struct trm_cover whole = {0};
        trm_cover_add(&whole, tensor->columns, trm_ckpt_tensor_rect(tensor));
        for (size_t kind = 0; status == TRM_OK && kind < TRM_KIND_COUNT; kind++) {
            struct trm_cover have = covers[(size_t)t * TRM_KIND_COUNT + kind];
            if (!trm_cover_equal(have, whole))
                status =
                    trm_error_set(err, TRM_ERR_INTERNAL,
                                  "the ranks' pieces do not cover %s of \"%s\" exactly once: %llu "
                                  "elements of %llu",
                                  trm_ckpt_kind_name((enum trm_ckpt_kind)kind), tensor->name,
                                  (unsigned long long)have.count, (unsigned long long)whole.count);
        }
    }
cleanup:
    free(covers);
    return status;
}

/* Collective; agreed. Every shard's table to rank 0; counts[r]: rows of the one that r leads. */
static enum trm_status exchange_tables(struct trm_comm *comm, struct trm_save_plan *plan,
                                       const int64_t *counts, struct trm_error *err)
{
    const struct trm_slice_set *table = &plan->group.table;
    bool root = comm->rank == 0, sends = !root && table->count > 0;
    struct trm_message send = {0, table->slices, (size_t)table->count * sizeof(*table->slices)};
    struct trm_message *receives = calloc((size_t)comm->size, sizeof(*receives));
    int64_t total = 0;
    int senders = 0;
    enum trm_status status = TRM_OK;
    for (int rank = 0; rank < comm->size; rank++)
        total += counts[rank];
    if (root)
        plan->all_slices = malloc((size_t)total * sizeof(*plan->all_slices) + 1);
    if (receives == NULL || (root && plan->all_slices == NULL))
        status =
            trm_error_set(err, TRM_ERR_MEMORY, "out of memory for %lld slices", (long long)total);
    if (status == TRM_OK && root) {
        int64_t at = counts[0];
        memcpy(plan->all_slices, table->slices, send.bytes);
        for (int rank = 1; rank < comm->size; rank++) {
            if (counts[rank] == 0)
                continue;
            receives[senders++] = (struct trm_message){
                rank, &plan->all_slices[at], (size_t)counts[rank] * sizeof(*plan->all_slices)};
            at += counts[rank];
        }
    }
    status = trm_exchange_agreed(comm, status, &send, sends ? 1 : 0, receives, senders, err);
    free(receives);
    return status;
}

/* Collective: sizes, and the tables for rank 0. */
static enum trm_status gather(struct trm_comm *comm, struct trm_save_plan *plan,
                              struct trm_error *err)
{
    const int64_t row_bytes = TRM_SLICE_ROW_BYTES + (int64_t)sizeof(uint64_t);
    int64_t *counts = calloc((size_t)comm->size, sizeof(*counts));
    enum trm_status status = TRM_OK;
    for (int kind = 0; kind < TRM_KIND_COUNT; kind++)
        plan->my_bytes +=
            plan->live.elements[kind] * (int64_t)trm_type_bytes(plan->tensors[0].type);
    plan->total_bytes = plan->my_bytes + plan->live.count * row_bytes;
    if (counts == NULL)
        status = trm_error_set(err, TRM_ERR_MEMORY, "out of memory for %d ranks", comm->size);
    status = trm_agree(comm, status, err);
    if (status == TRM_OK)
        status = trm_comm_all_reduce(comm, &plan->total_bytes, 1, TRM_SUM_I64, NULL, err);
    if (status == TRM_OK)
        status =
            trm_comm_all_gather(comm, &plan->group.table.count, counts, sizeof(*counts), NULL, err);
    if (status == TRM_OK)
        status = exchange_tables(comm, plan, counts, err);
    free(counts);
    return status;
}

/* Collective; agreed. */
static enum trm_status form_groups(struct trm_comm *comm,
                                   const struct trm_save_plan_settings *settings,
                                   struct trm_save_plan *plan, struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    uint64_t *nodes = calloc((size_t)comm->size, sizeof(*nodes));
    if (nodes == NULL)
        status = trm_error_set(err, TRM_ERR_MEMORY, "out of memory for %d ranks", comm->size);
    status = trm_agree(comm, status, err);
    if (status == TRM_OK)
        status = trm_comm_all_gather(comm, &settings->node, nodes, sizeof(*nodes), NULL, err);
    if (status == TRM_OK)
        status = trm_agree(comm,
                           trm_shard_group_find(nodes, comm->size, comm->rank,
                                                settings->shard_group_size, &plan->group, err),
                           err);
    if (status == TRM_OK)
        status = trm_shard_group_place(comm, &plan->group, &plan->live, err);
    free(nodes);
    return status;
}

static enum trm_status copy_tensors(struct trm_save_plan *plan,
                                    const struct trm_ckpt_tensor *tensors, int tensor_count,
                                    struct trm_error *err)
{
    plan->tensors = malloc((size_t)tensor_count * sizeof(*tensors) + 1);
    if (plan->tensors == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for %d tensors", tensor_count);
    memcpy(plan->tensors, tensors, (size_t)tensor_count * sizeof(*tensors));
    plan->tensor_count = tensor_count;
    return TRM_OK;
}

/* The tensors are what our own reader accepts. */
static enum trm_status check_tensors(const struct trm_save_plan *plan, struct trm_error *err)
{
    const struct trm_ckpt_state state = {
        .run_id = "any", .data_parallel_size = 1, .tensor_model_parallel_size = 1};
    struct trm_catalog catalog = trm_save_plan_catalog(plan, &state, 0, NULL, 0);
    enum trm_status status = trm_catalog_check(&catalog, err);
    free(catalog.by_name);
    return status;
}

enum trm_status trm_save_plan_create(struct trm_comm *comm,
                                     const struct trm_save_plan_settings *settings,
                                     struct trm_save_plan *out, struct trm_error *err)
{
    struct trm_save_plan plan = {
        .rank = comm->rank, .size = comm->size, .group = {.shard_count = 1}};
    enum trm_status status = trm_file_path(plan.directory, err, "%s", settings->directory);
    if (status == TRM_OK)
        status = copy_tensors(&plan, settings->tensors, settings->tensor_count, err);
    if (status == TRM_OK)
        status = check_tensors(&plan, err);
    if (status == TRM_OK)
        status = trm_slice_set_cut(plan.tensors, plan.tensor_count, settings->pieces,
                                   settings->piece_count, &plan.live, err);
    status = trm_agree(comm, status, err);
    if (status == TRM_OK)
        status = count_slices(comm, &plan, err);
    if (status == TRM_OK)
        status = check_cover(comm, &plan, settings->pieces, settings->piece_count, err);
    if (status == TRM_OK)
        status = form_groups(comm, settings, &plan, err);
    if (status == TRM_OK)
        status = gather(comm, &plan, err);
    if (status != TRM_OK) {
        trm_save_plan_destroy(&plan);
        return status;
    }
    *out = plan;
    return TRM_OK;
}

void trm_save_plan_destroy(struct trm_save_plan *plan)
{
    if (plan == NULL)
        return;
    trm_slice_set_destroy(&plan->live);
    trm_shard_group_destroy(&plan->group);
    free(plan->tensors);
    free(plan->all_slices);
    plan->tensors = NULL;
    plan->all_slices = NULL;
}
