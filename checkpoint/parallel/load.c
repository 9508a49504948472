#include <stdlib.h>
#include <string.h>

#include "checkpoint/parallel/opened.h"
#include "checkpoint/restore.h"
#include "checkpoint/store.h"
#include "collectives/agree.h"

/* A checkpoint on disk. */
struct disk_checkpoint {
    struct trm_checkpoint base;
    struct trm_stored *stored;
    struct trm_source **sources;
};

static void close_disk(struct trm_checkpoint *checkpoint)
{
    struct disk_checkpoint *disk = (struct disk_checkpoint *)checkpoint;
    if (disk == NULL)
        return;
    if (disk->stored != NULL)
        trm_sources_destroy(disk->sources, disk->stored->catalog.file_count);
    trm_stored_close(disk->stored);
    free(disk);
}

void trm_checkpoint_close(struct trm_checkpoint *checkpoint)
{
    if (checkpoint != NULL)
        checkpoint->operations->close(checkpoint);
}

/* What precedes an open checkpoint that rank 0 passes on. */
struct parcel {
    char path[TRM_PATH_BYTES];
    int64_t manifest_bytes, slice_count;
};

/* Collective. On rank 0 *stored is open; on the others it is made from what rank 0 sends. */
static enum trm_status share(struct trm_comm *comm, struct trm_stored **stored,
                             struct trm_error *err)
{
    struct parcel parcel = {.manifest_bytes = 0};
    char *manifest = NULL;
    struct trm_slice *slices = NULL;
    if (comm->rank == 0) {
        memcpy(parcel.path, (*stored)->path, sizeof(parcel.path));
        parcel.manifest_bytes = (int64_t)(*stored)->manifest_bytes;
        parcel.slice_count = (*stored)->slice_count;
        manifest = (*stored)->manifest;
        slices = (*stored)->slices;
    }
    enum trm_status status = trm_comm_broadcast(comm, &parcel, sizeof(parcel), 0, NULL, err);
    if (status != TRM_OK)
        return status;
    size_t manifest_bytes = (size_t)parcel.manifest_bytes;
    size_t slice_bytes = (size_t)parcel.slice_count * sizeof(*slices);
    if (comm->rank != 0) {
        manifest = malloc(manifest_bytes + 1);
        slices = malloc(slice_bytes + 1);
        if (manifest == NULL || slices == NULL)
            status = trm_error_set(err, TRM_ERR_MEMORY, "out of memory for %lld slices",
                                   (long long)parcel.slice_count);
    }
    status = trm_agree(comm, status, err);
    if (status == TRM_OK)
        status = trm_comm_broadcast(comm, manifest, manifest_bytes, 0, NULL, err);
    if (status == TRM_OK)
        status = trm_comm_broadcast(comm, slices, slice_bytes, 0, NULL, err);
    if (comm->rank != 0) {
        if (status == TRM_OK)
            status = trm_stored_rebuild(parcel.path, manifest, manifest_bytes, slices,
                                        parcel.slice_count, stored, err);
        free(manifest);
        free(slices);
    }
    return status;
}

/* What rank 0 looks for. */
struct search {
    const char *where;
    int64_t step, below; /* exactly this one, or -1; below: only older ones */
    trm_passed_over_fn passed_over;
    void *context;
};

/* Not collective: the newest below search->below that opens. */
static enum trm_status find_older(const struct search *search, struct trm_stored **stored,
                                  struct trm_error *err)
{
    int64_t *steps = NULL;
    int count = 0;
    enum trm_status status = trm_store_list(search->where, &steps, &count, err);
    if (status != TRM_OK)
        return status;
    status = trm_error_set(err, TRM_ERR_NOT_FOUND, "no sound checkpoint in \"%s\" before step %lld",
                           search->where, (long long)search->below);
    for (int i = 0; i < count; i++) {
        struct trm_error reason = {0};
        char path[TRM_PATH_BYTES];
        if (steps[i] >= search->below)
            continue;
        if (trm_stored_open_newest(search->where, steps[i], NULL, NULL, stored, &reason) ==
            TRM_OK) {
            if (!trm_stored_is_given_up(search->where, &(*stored)->catalog, steps, count, NULL)) {
                status = TRM_OK;
                break;
            }
            (void)trm_error_set(&reason, TRM_ERR_MISMATCH, "a rollback gave it up");
            trm_stored_close(*stored);
            *stored = NULL;
        }
        if (search->passed_over != NULL &&
            trm_store_step_path(search->where, steps[i], path, NULL) == TRM_OK)
            search->passed_over(search->context, path, reason.text);
    }
    free(steps);
    return status;
}

/* Not collective. */
static enum trm_status find(const struct search *search, struct trm_stored **stored,
                            struct trm_error *err)
{
    if (search->below >= 0)
        return find_older(search, stored, err);
    trm_store_recover(search->where);
    return trm_stored_open_newest(search->where, search->step, search->passed_over, search->context,
                                  stored, err);
}

static enum trm_status load_disk(struct trm_comm *comm, struct trm_checkpoint *checkpoint,
                                 const struct trm_ckpt_piece *pieces, int piece_count,
                                 int64_t *bytes_read, struct trm_error *err);

static const struct trm_checkpoint_operations disk_operations = {load_disk, close_disk};

static enum trm_status open_found(struct trm_comm *comm, const struct search *search,
                                  struct trm_checkpoint **out, struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    struct disk_checkpoint *disk = calloc(1, sizeof(*disk));
    if (disk == NULL)
        status =
            trm_error_set(err, TRM_ERR_MEMORY, "out of memory for opening \"%s\"", search->where);
    if (status == TRM_OK && comm->rank == 0)
        status = find(search, &disk->stored, err);
    status = trm_agree(comm, status, err);
    if (status == TRM_OK && comm->size > 1)
        status = trm_agree(comm, share(comm, &disk->stored, err), err);
    if (status == TRM_OK)
        status = trm_agree(comm, trm_sources_of_stored(disk->stored, &disk->sources, err), err);
    if (status != TRM_OK) {
        close_disk(&disk->base);
        return status;
    }
    disk->base =
        (struct trm_checkpoint){&disk_operations, &disk->stored->catalog, disk->stored->path};
    *out = &disk->base;
    return TRM_OK;
}

enum trm_status trm_checkpoint_open(struct trm_comm *comm, const char *where, int64_t step,
                                    trm_passed_over_fn passed_over, void *context,
                                    struct trm_checkpoint **out, struct trm_error *err)
{
    const struct search search = {where, step, -1, passed_over, context};
    return open_found(comm, &search, out, err);
}

enum trm_status trm_checkpoint_open_older(struct trm_comm *comm, const char *where, int64_t below,
                                          trm_passed_over_fn passed_over, void *context,
                                          struct trm_checkpoint **out, struct trm_error *err)
{
    const struct search search = {where, -1, below, passed_over, context};
    return open_found(comm, &search, out, err);
}

const struct trm_catalog *trm_checkpoint_catalog(const struct trm_checkpoint *checkpoint)
{
    return checkpoint->catalog;
}

const char *trm_checkpoint_path(const struct trm_checkpoint *checkpoint)
{
    return checkpoint->path;
}

int trm_checkpoint_find(const struct trm_checkpoint *checkpoint, const char *name)
{
    return trm_catalog_find(checkpoint->catalog, name);
}

/* Not collective. */
static enum trm_status load_mine(struct disk_checkpoint *disk, const struct trm_ckpt_piece *pieces,
                                 int piece_count, int64_t *bytes_read, struct trm_error *err)
{
    const struct trm_catalog *catalog = &disk->stored->catalog;
    struct trm_restore *restore = NULL;
    enum trm_status status =
        trm_restore_create(catalog->tensors, catalog->tensor_count, disk->sources,
                           catalog->file_count, NULL, NULL, &restore, err);
    if (status == TRM_OK)
        status = trm_restore_run(restore, pieces, piece_count, bytes_read, err);
    trm_restore_destroy(restore);
    return status;
}

static enum trm_status load_disk(struct trm_comm *comm, struct trm_checkpoint *checkpoint,
                                 const struct trm_ckpt_piece *pieces, int piece_count,
                                 int64_t *bytes_read, struct trm_error *err)
{
    struct disk_checkpoint *disk = (struct disk_checkpoint *)checkpoint;
    return trm_agree(comm, load_mine(disk, pieces, piece_count, bytes_read, err), err);
}

/* Not collective. */
static enum trm_status check_kinds(const struct trm_checkpoint *checkpoint,
                                   const struct trm_ckpt_piece *pieces, int piece_count,
                                   struct trm_error *err)
{
    for (int p = 0; p < piece_count; p++) {
        enum trm_ckpt_kind kind = pieces[p].kind;
        if ((unsigned)kind < TRM_KIND_COUNT && !checkpoint->catalog->kinds[kind])
            return trm_error_set(err, TRM_ERR_MISMATCH, "%s: it holds no %s", checkpoint->path,
                                 trm_ckpt_kind_name(kind));
    }
    return TRM_OK;
}

enum trm_status trm_checkpoint_load(struct trm_comm *comm, struct trm_checkpoint *checkpoint,
                                    const struct trm_ckpt_piece *pieces, int piece_count,
                                    int64_t *bytes_read, struct trm_error *err)
{
    int64_t read = 0;
    enum trm_status status =
        trm_agree(comm, check_kinds(checkpoint, pieces, piece_count, err), err);
    if (status == TRM_OK)
        status = checkpoint->operations->load(comm, checkpoint, pieces, piece_count, &read, err);
    if (status == TRM_OK && bytes_read != NULL)
        *bytes_read = read;
    return status;
}
