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
        .shard_count = plan->size,
        .files = files,
        .file_count = file_count,
        .kinds = {true, true, true},
        .nonce = nonce,
    };
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

/* Every rank's slices to rank 0, whose `counts` say how many come from whom. */
static enum trm_status exchange_slices(struct trm_comm *comm, struct trm_save_plan *plan,
                                       const int64_t *counts, struct trm_error *err)
{
    bool root = comm->rank == 0;
    struct trm_request *request = NULL;
    struct trm_message send = {0, plan->live.slices,
                               (size_t)plan->live.count * sizeof(*plan->live.slices)};
    struct trm_message *receives = calloc((size_t)comm->size, sizeof(*receives));
    int64_t total = 0;
    for (int rank = 0; rank < comm->size; rank++)
        total += counts[rank];
    if (root)
        plan->all_slices = malloc((size_t)total * sizeof(*plan->all_slices) + 1);
    enum trm_status status = trm_request_create(comm, comm->size, &request, err);
    if (status == TRM_OK && (receives == NULL || (root && plan->all_slices == NULL)))
        status =
            trm_error_set(err, TRM_ERR_MEMORY, "out of memory for %lld slices", (long long)total);
    status = trm_agree(comm, status, err);
    if (status == TRM_OK && root) {
        memcpy(plan->all_slices, plan->live.slices, send.bytes);
        int64_t at = counts[0];
        for (int rank = 1; rank < comm->size; rank++) {
            receives[rank - 1] = (struct trm_message){
                rank, &plan->all_slices[at], (size_t)counts[rank] * sizeof(*plan->all_slices)};
            at += counts[rank];
        }
    }
    if (status == TRM_OK)
        status = trm_comm_exchange(comm, &send, root ? 0 : 1, receives, root ? comm->size - 1 : 0,
                                   request, err);
    if (status == TRM_OK)
        status = trm_request_wait(request, err);
    trm_request_destroy(request);
    free(receives);
    return status;
}

/* Collective: sizes, and the tables for rank 0. */
static enum trm_status gather(struct trm_comm *comm, struct trm_save_plan *plan,
                              struct trm_error *err)
{
    int64_t *counts = calloc((size_t)comm->size, sizeof(*counts));
    enum trm_status status = TRM_OK;
    for (int kind = 0; kind < TRM_KIND_COUNT; kind++)
        plan->total_bytes +=
            plan->live.elements[kind] * (int64_t)trm_type_bytes(plan->tensors[0].type);
    if (counts == NULL)
        status = trm_error_set(err, TRM_ERR_MEMORY, "out of memory for %d ranks", comm->size);
    status = trm_agree(comm, status, err);
    if (status == TRM_OK)
        status = trm_comm_all_reduce(comm, &plan->total_bytes, 1, TRM_SUM_I64, NULL, err);
    if (status == TRM_OK)
        status = trm_comm_all_gather(comm, &plan->live.count, counts, sizeof(*counts), NULL, err);
    if (status == TRM_OK)
        status = exchange_slices(comm, plan, counts, err);
    free(counts);
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

enum trm_status trm_save_plan_create(struct trm_comm *comm, const char *directory,
                                     const struct trm_ckpt_tensor *tensors, int tensor_count,
                                     const struct trm_ckpt_piece *pieces, int piece_count,
                                     struct trm_save_plan *out, struct trm_error *err)
{
    struct trm_save_plan plan = {.rank = comm->rank, .size = comm->size};
    enum trm_status status = trm_file_path(plan.directory, err, "%s", directory);
    if (status == TRM_OK)
        status = copy_tensors(&plan, tensors, tensor_count, err);
    if (status == TRM_OK)
        status = check_tensors(&plan, err);
    if (status == TRM_OK)
        status =
            trm_slice_set_cut(plan.tensors, tensor_count, pieces, piece_count, &plan.live, err);
    status = trm_agree(comm, status, err);
    if (status == TRM_OK)
        status = check_cover(comm, &plan, pieces, piece_count, err);
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
    free(plan->tensors);
    free(plan->all_slices);
    plan->tensors = NULL;
    plan->all_slices = NULL;
}
