/* `trireme ckpt reshard CKPT -o OUT --shards N`. */
#include <stdio.h>

#include "checkpoint/restore.h"
#include "tools/ckpt.h"
#include "tools/ckpt_options.h"
#include "tools/ckpt_write.h"

struct reshard {
    struct trm_restore *restore;
    struct trm_ckpt_progress progress;
};

static enum trm_status fill(void *context, const struct trm_ckpt_piece *pieces, int piece_count,
                            struct trm_error *err)
{
    struct reshard *reshard = context;
    return trm_restore_run(reshard->restore, pieces, piece_count, NULL, err);
}

static void show(void *context, int64_t bytes)
{
    struct reshard *reshard = context;
    trm_ckpt_progress_show(&reshard->progress, bytes);
}

static enum trm_status write_shards(const struct trm_stored *stored, struct trm_restore *restore,
                                    const struct trm_ckpt_options *options,
                                    char path[TRM_PATH_BYTES], struct trm_error *err)
{
    const struct trm_catalog *catalog = &stored->catalog;
    struct reshard reshard = {.restore = restore};
    struct trm_ckpt_content content = {
        .state = &catalog->state,
        .tensors = catalog->tensors,
        .tensor_count = catalog->tensor_count,
        .fill = fill,
        .progress = show,
        .context = &reshard,
    };
    for (int kind = 0; kind < TRM_KIND_COUNT; kind++)
        content.kinds[kind] = catalog->kinds[kind];
    trm_ckpt_progress_begin(&reshard.progress, "resharding", trm_catalog_bytes(catalog));
    enum trm_status status = trm_ckpt_write(options->output, &content, options->shards, path, err);
    trm_ckpt_progress_end(&reshard.progress);
    return status;
}

int trm_ckpt_reshard(int argc, char **argv)
{
    struct trm_ckpt_options options;
    struct trm_stored *stored = NULL;
    struct trm_source **sources = NULL;
    struct trm_restore *restore = NULL;
    struct trm_error err = {0};
    char path[TRM_PATH_BYTES];
    if (!trm_ckpt_parse("reshard", "os", argc, argv, &options))
        return TRM_EXIT_USAGE;
    if (options.shards == 0) {
        fprintf(stderr, "trireme ckpt reshard: --shards is missing; into how many files?\n");
        return TRM_EXIT_USAGE;
    }
    enum trm_status status = trm_ckpt_open(options.source, &stored, &err);
    if (status == TRM_OK)
        status = trm_sources_of_stored(stored, &sources, &err);
    if (status == TRM_OK)
        status = trm_restore_create(stored->catalog.tensors, stored->catalog.tensor_count, sources,
                                    stored->catalog.file_count, NULL, NULL, &restore, &err);
    if (status == TRM_OK)
        status = write_shards(stored, restore, &options, path, &err);
    trm_restore_destroy(restore);
    if (stored != NULL)
        trm_sources_destroy(sources, stored->catalog.file_count);
    trm_stored_close(stored);
    if (status != TRM_OK)
        return trm_ckpt_fail(&err);
    printf("%s: %d shard%s\n", path, options.shards, options.shards > 1 ? "s" : "");
    return TRM_EXIT_OK;
}
