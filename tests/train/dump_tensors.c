/*
 * Writes every tensor of a checkpoint, whole and raw, as restored for a trainer that holds all of
 * it: DIRECTORY/KIND.NAME.
 *
 * usage: dump_tensors CHECKPOINT DIRECTORY
 */
#include <stdio.h>
#include <stdlib.h>

#include "checkpoint/restore.h"

static enum trm_status dump(struct trm_restore *restore, const struct trm_ckpt_tensor *tensor,
                            struct trm_ckpt_piece piece, const char *directory,
                            struct trm_error *err)
{
    char path[TRM_PATH_BYTES];
    size_t bytes = (size_t)trm_rect_elements(piece.rect) * trm_type_bytes(tensor->type);
    piece.data = malloc(bytes);
    enum trm_status status = trm_file_path(path, err, "%s/%s.%s", directory,
                                           trm_ckpt_kind_name(piece.kind), tensor->name);
    if (piece.data == NULL)
        status = trm_error_set(err, TRM_ERR_MEMORY, "out of memory for %zu bytes", bytes);
    if (status == TRM_OK)
        status = trm_restore_run(restore, &piece, 1, NULL, err);
    if (status == TRM_OK)
        status = trm_file_write_all(path, piece.data, bytes, false, err);
    free(piece.data);
    return status;
}

int main(int argc, char **argv)
{
    struct trm_error err = {0};
    struct trm_stored *stored = NULL;
    struct trm_source **sources = NULL;
    struct trm_restore *restore = NULL;
    if (argc != 3) {
        fprintf(stderr, "usage: dump_tensors CHECKPOINT DIRECTORY\n");
        return TRM_EXIT_USAGE;
    }
    enum trm_status status = trm_stored_open(argv[1], &stored, &err);
    if (status == TRM_OK)
        status = trm_sources_of_stored(stored, &sources, &err);
    if (status == TRM_OK)
        status = trm_restore_create(stored->catalog.tensors, stored->catalog.tensor_count, sources,
                                    stored->catalog.file_count, NULL, NULL, &restore, &err);
    for (int t = 0; status == TRM_OK && t < stored->catalog.tensor_count; t++)
        for (int kind = 0; status == TRM_OK && kind < TRM_KIND_COUNT; kind++) {
            const struct trm_ckpt_tensor *tensor = &stored->catalog.tensors[t];
            struct trm_ckpt_piece piece = {t, (enum trm_ckpt_kind)kind,
                                           trm_ckpt_tensor_rect(tensor), NULL};
            if (stored->catalog.kinds[kind])
                status = dump(restore, tensor, piece, argv[2], &err);
        }
    trm_restore_destroy(restore);
    if (stored != NULL)
        trm_sources_destroy(sources, stored->catalog.file_count);
    trm_stored_close(stored);
    if (status != TRM_OK)
        fprintf(stderr, "dump_tensors: %s\n", err.text);
    return (int)trm_status_exit_code(status);
}
