#include "checkpoint/snapshot.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

#define BLOCK_BYTES 4096
#define THREADS_MAX 64

size_t trm_snapshot_bytes(int64_t elements, int64_t stretches, enum trm_type type)
{
    /* Before each there is less than a block. */
    return (size_t)elements * trm_type_bytes(type) + (size_t)stretches * BLOCK_BYTES;
}

/* Whether a slice comes right behind the one before in the shard. */
static bool follows(const struct trm_slice *last, const struct trm_slice *next)
{
    return last->kind == next->kind && last->offset + trm_rect_elements(last->rect) == next->offset;
}

/* The first address from `from` on that lies in its block as byte `offset` of a dataset does. */
static char *place_like(char *from, size_t offset)
{
    return from + (offset - (uintptr_t)from) % BLOCK_BYTES;
}

enum trm_status trm_snapshot_create(const struct trm_slice_set *live, enum trm_type type,
                                    void *memory, struct trm_snapshot *out, struct trm_error *err)
{
    struct trm_snapshot made = {.live = live, .set = *live, .type = type};
    size_t count = (size_t)live->count;
    made.set.slices = malloc(count * sizeof(*made.set.slices) + 1);
    made.set.data = malloc(count * sizeof(*made.set.data) + 1);
    if (made.set.slices == NULL || made.set.data == NULL) {
        trm_snapshot_destroy(&made);
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for a table of %zu slices", count);
    }
    memcpy(made.set.slices, live->slices, count * sizeof(*live->slices));
    char *next = memory;
    for (size_t i = 0; i < count; i++) {
        const struct trm_slice *slice = &live->slices[i];
        if (i == 0 || !follows(slice - 1, slice))
            next = place_like(next, (size_t)slice->offset * trm_type_bytes(type));
        made.set.data[i] = next;
        next += trm_slice_bytes(slice, type);
    }
    *out = made;
    return TRM_OK;
}

void trm_snapshot_destroy(struct trm_snapshot *snapshot)
{
    if (snapshot != NULL)
        trm_slice_set_destroy(&snapshot->set);
}

/* Bytes [begin, end) of the snapshot, slices counted one after the other. */
struct share {
    const struct trm_snapshot *snapshot;
    int64_t begin, end;
    pthread_t thread;
    bool helped;
};

static void *copy_share(void *context)
{
    const struct share *share = context;
    const struct trm_snapshot *snapshot = share->snapshot;
    int64_t at = 0;
    for (int64_t i = 0; i < snapshot->set.count && at < share->end; i++) {
        int64_t bytes = trm_slice_bytes(&snapshot->set.slices[i], snapshot->type);
        int64_t begin = share->begin > at ? share->begin - at : 0;
        int64_t end = share->end - at < bytes ? share->end - at : bytes;
        /* The set's data is what a writer only reads; the memory behind it is the snapshot's. */
        if (begin < end)
            memcpy((char *)(uintptr_t)snapshot->set.data[i] + begin,
                   (const char *)snapshot->live->data[i] + begin, (size_t)(end - begin));
        at += bytes;
    }
    return NULL;
}

void trm_snapshot_take(struct trm_snapshot *snapshot, int threads)
{
    struct share shares[THREADS_MAX];
    int64_t bytes = 0;
    TRM_ASSERT(threads >= 1);
    if (threads > THREADS_MAX)
        threads = THREADS_MAX;
    for (int kind = 0; kind < TRM_KIND_COUNT; kind++)
        bytes += snapshot->set.elements[kind] * (int64_t)trm_type_bytes(snapshot->type);
    for (int t = threads - 1; t >= 0; t--) {
        shares[t] = (struct share){.snapshot = snapshot,
                                   .begin = bytes / threads * t,
                                   .end = t == threads - 1 ? bytes : bytes / threads * (t + 1)};
        shares[t].helped =
            t > 0 && pthread_create(&shares[t].thread, NULL, copy_share, &shares[t]) == 0;
        if (!shares[t].helped)
            copy_share(&shares[t]);
    }
    for (int t = 1; t < threads; t++)
        if (shares[t].helped)
            pthread_join(shares[t].thread, NULL);
}
