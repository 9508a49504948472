#include "checkpoint/parallel/save.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/file.h"
#include "checkpoint/shard.h"
#include "checkpoint/store.h"
#include "collectives/agree.h"

/* One save, seen from one rank. */
struct save {
    struct trm_comm *comm;
    const char *directory;
    const struct trm_ckpt_state *state;
    const struct trm_ckpt_tensor *tensors;
    int tensor_count;
    const struct trm_ckpt_piece *pieces;
    int piece_count;
    struct trm_slice_set set;
    struct trm_ckpt_file file; /* bytes = 0: this rank has nothing to write */
    /* From rank 0, for all. */
    struct opening {
        uint64_t nonce;
        int64_t there_already;
    } opening;
};

/* The state and tensors are what our own reader accepts. */
static enum trm_status check_catalog(const struct save *save, struct trm_error *err)
{
    struct trm_catalog catalog = {
        .state = *save->state,
        .tensor_count = save->tensor_count,
        .tensors = (struct trm_ckpt_tensor *)save->tensors,
        .shard_count = save->comm->size,
        .kinds = {true, true, true},
    };
    enum trm_status status = trm_catalog_check(&catalog, err);
    free(catalog.by_name);
    return status;
}

/* Collective: the pieces of all ranks together are every tensor in every kind, exactly once. */
static enum trm_status check_cover(const struct save *save, struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    size_t count = (size_t)save->tensor_count * TRM_KIND_COUNT;
    size_t words = sizeof(struct trm_cover) / sizeof(int64_t);
    struct trm_cover *covers = calloc(count, sizeof(*covers));
    if (covers == NULL)
        status =
            trm_error_set(err, TRM_ERR_MEMORY, "out of memory for %d tensors", save->tensor_count);
    status = trm_agree(save->comm, status, err);
    if (status != TRM_OK)
        goto cleanup;
    for (int p = 0; p < save->piece_count; p++) {
        const struct trm_ckpt_piece *piece = &save->pieces[p];
        trm_cover_add(&covers[(size_t)piece->tensor * TRM_KIND_COUNT + piece->kind],
                      save->tensors[piece->tensor].columns, piece->rect);
    }
    /* Sums modulo 2^64: added as integers, they wrap as they do in one process. */
    status = trm_comm_all_reduce(save->comm, covers, count * words, TRM_SUM_I64, NULL, err);
    for (int t = 0; status == TRM_OK && t < save->tensor_count; t++) {
        const struct trm_ckpt_tensor *tensor = &save->tensors[t];
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

/* Rank 0: what is there, and a stage. */
static enum trm_status open_stage(struct save *save, struct trm_error *err)
{
    const struct trm_ckpt_state *state = save->state;
    bool holds = false;
    enum trm_status status = trm_store_holds(save->directory, state, &holds, err);
    save->opening.there_already = holds;
    if (status != TRM_OK || holds)
        return status;
    if (getrandom(&save->opening.nonce, sizeof(save->opening.nonce), 0) !=
        (ssize_t)sizeof(save->opening.nonce))
        save->opening.nonce = (uint64_t)trm_clock_now_ns();
    return trm_store_stage(save->directory, state->step, state->attempt, err);
}

static enum trm_status write_shard(struct save *save, int64_t *bytes_written, struct trm_error *err)
{
    char stage[TRM_PATH_BYTES], path[TRM_PATH_BYTES];
    const struct trm_ckpt_state *state = save->state;
    struct trm_ckpt_file *file = &save->file;
    if (save->set.count == 0)
        return TRM_OK;
    struct trm_shard_identity identity =
        trm_shard_identity_of(state, save->opening.nonce, save->comm->rank, save->comm->size);
    enum trm_type type = save->tensors[0].type;
    snprintf(file->name, sizeof(file->name), "shard-%05d.h5", save->comm->rank);
    enum trm_status status =
        trm_store_stage_path(save->directory, state->step, state->attempt, stage, err);
    if (status == TRM_OK)
        status = trm_file_path(path, err, "%s/%s", stage, file->name);
    if (status == TRM_OK)
        status = trm_shard_create(path, &identity, type, &save->set, file, err);
    if (status == TRM_OK)
        status = trm_shard_write(path, &identity, type, &save->set, file, err);
    if (status == TRM_OK)
        *bytes_written = file->bytes;
    return status;
}

/* Rank 0: the catalog out of all ranks' files, and the commit. */
static enum trm_status commit(const struct save *save, struct trm_ckpt_file *files,
                              struct trm_error *err)
{
    struct trm_catalog catalog = {
        .state = *save->state,
        .tensor_count = save->tensor_count,
        .tensors = (struct trm_ckpt_tensor *)save->tensors,
        .shard_count = save->comm->size,
        .files = files,
        .kinds = {true, true, true},
        .nonce = save->opening.nonce,
    };
    for (int rank = 0; rank < save->comm->size; rank++)
        if (files[rank].bytes > 0)
            files[catalog.file_count++] = files[rank];
    trm_clock_utc(catalog.written_at, sizeof(catalog.written_at));
    return trm_store_commit(save->directory, &catalog, err);
}

/* Collective: everybody's file record to rank 0, which commits. */
static enum trm_status gather_and_commit(struct save *save, struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    struct trm_ckpt_file *files = calloc((size_t)save->comm->size, sizeof(*files));
    if (files == NULL)
        status = trm_error_set(err, TRM_ERR_MEMORY, "out of memory for %d file records",
                               save->comm->size);
    status = trm_agree(save->comm, status, err);
    if (status == TRM_OK)
        status = trm_comm_all_gather(save->comm, &save->file, files, sizeof(*files), NULL, err);
    if (status == TRM_OK) {
        if (save->comm->rank == 0)
            status = commit(save, files, err);
        status = trm_agree(save->comm, status, err);
    }
    free(files);
    return status;
}

/* Collective: what can be found wrong before anything is written. */
static enum trm_status prepare(struct save *save, struct trm_error *err)
{
    enum trm_status status = check_catalog(save, err);
    if (status == TRM_OK)
        status = trm_slice_set_cut(save->tensors, save->tensor_count, save->pieces,
                                   save->piece_count, &save->set, err);
    status = trm_agree(save->comm, status, err);
    if (status == TRM_OK)
        status = check_cover(save, err);
    return status;
}

enum trm_status trm_checkpoint_save(struct trm_comm *comm, const char *directory,
                                    const struct trm_ckpt_state *state,
                                    const struct trm_ckpt_tensor *tensors, int tensor_count,
                                    const struct trm_ckpt_piece *pieces, int piece_count,
                                    int64_t *bytes_written, struct trm_error *err)
{
    struct save save = {.comm = comm,
                        .directory = directory,
                        .state = state,
                        .tensors = tensors,
                        .tensor_count = tensor_count,
                        .pieces = pieces,
                        .piece_count = piece_count};
    int64_t written = 0;
    bool staged = false;
    enum trm_status status = prepare(&save, err);
    if (status == TRM_OK) {
        if (comm->rank == 0)
            status = open_stage(&save, err);
        staged = status == TRM_OK;
        status = trm_agree(comm, status, err);
    }
    if (status == TRM_OK)
        status = trm_comm_broadcast(comm, &save.opening, sizeof(save.opening), 0, NULL, err);
    if (status == TRM_OK && !save.opening.there_already) {
        status = trm_agree(comm, write_shard(&save, &written, err), err);
        if (status == TRM_OK)
            status = gather_and_commit(&save, err);
    }
    /* After a commit that failed half-way the stage may be gone: that is fine. */
    if (status != TRM_OK && staged && comm->rank == 0)
        (void)trm_store_discard(directory, state->step, state->attempt, NULL);
    trm_slice_set_destroy(&save.set);
    if (status != TRM_OK)
        return trm_error_prefix(err, "saving step %lld", (long long)state->step);
    if (bytes_written != NULL)
        *bytes_written = written;
    return TRM_OK;
}
