#include "checkpoint/verify.h"

#include <stdlib.h>

#include "checkpoint/restore.h"
#include "checkpoint/shard.h"

struct verification {
    const struct trm_stored *stored;
    const struct trm_verify_report *report;
    char *slice;
    int64_t bytes;
    struct trm_error first;
};

static void note(struct verification *v, const struct trm_error *reason)
{
    if (v->first.status == TRM_OK)
        v->first = *reason;
    if (v->report->wrong != NULL)
        v->report->wrong(v->report->context, reason->text);
}

static void verify_source(struct verification *v, struct trm_source *source, int file)
{
    const struct trm_catalog *catalog = &v->stored->catalog;
    struct trm_error reason = {0};
    if (trm_shard_inspect(source->name, catalog, &catalog->files[file], &reason) != TRM_OK)
        note(v, &reason);
    for (int64_t i = 0; i < source->slice_count; i++) {
        const struct trm_slice *slice = &source->slices[i];
        const struct trm_slice *next = i + 1 < source->slice_count ? slice + 1 : NULL;
        if (next != NULL && source->operations->ahead != NULL)
            source->operations->ahead(
                source, i + 1, (size_t)trm_slice_bytes(next, catalog->tensors[next->tensor].type),
                true);
        if (trm_restore_read_slice(source, i, catalog->tensors, v->slice, &reason) != TRM_OK)
            note(v, &reason);
        v->bytes += trm_slice_bytes(slice, catalog->tensors[slice->tensor].type);
        if (v->report->progress != NULL)
            v->report->progress(v->report->context, v->bytes);
    }
    source->operations->idle(source);
}

enum trm_status trm_verify(const struct trm_stored *stored, const struct trm_verify_report *report,
                           struct trm_error *err)
{
    static const struct trm_verify_report silent = {0};
    struct verification v = {.stored = stored, .report = report != NULL ? report : &silent};
    struct trm_source **sources = NULL;
    enum trm_status status = trm_sources_of_stored(stored, &sources, err);
    if (status != TRM_OK)
        return status;
    v.slice = malloc(TRM_CKPT_SLICE_BYTES);
    if (v.slice == NULL)
        status =
            trm_error_set(err, TRM_ERR_MEMORY, "out of memory for verifying \"%s\"", stored->path);
    for (int i = 0; status == TRM_OK && i < stored->catalog.file_count; i++)
        verify_source(&v, sources[i], i);
    if (status == TRM_OK && v.first.status != TRM_OK)
        status = trm_error_set(err, v.first.status, "%s", v.first.text);
    free(v.slice);
    trm_sources_destroy(sources, stored->catalog.file_count);
    return status;
}
