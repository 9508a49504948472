/* The half of slots that reads what somebody else wrote: bounds first, then digests. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/hash.h"
#include "base/human.h"
#include "checkpoint/manifest.h"
#include "checkpoint/slot.h"

/* Allocates and maps all pages: now, not by a signal in the middle of a copy. Huge ones where the
 * system gives them. False with errno set. */
static bool populate(int fd, void *memory, int64_t bytes)
{
    (void)madvise(memory, (size_t)bytes, MADV_HUGEPAGE); /* a wish: speed alone depends on it */
    if (madvise(memory, (size_t)bytes, MADV_POPULATE_WRITE) == 0)
        return true;
    /* A kernel before 5.14: the pages at least, and the first copy maps them. */
    return errno == EINVAL && fallocate(fd, 0, 0, bytes) == 0;
}

enum trm_status trm_slot_map(int fd, bool touch, struct trm_slot *out, struct trm_error *err)
{
    struct stat info;
    char size[32];
    if (fstat(fd, &info) != 0)
        return trm_error_set_errno(err, errno, "could not look at a memory slot");
    if (info.st_size < TRM_SLOT_HEAD_BYTES)
        return trm_error_set(err, TRM_ERR_CORRUPT, "a memory slot of %lld bytes, below %d",
                             (long long)info.st_size, TRM_SLOT_HEAD_BYTES);
    trm_human_bytes(size, sizeof(size), (uint64_t)info.st_size);
    void *memory = mmap(NULL, (size_t)info.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED)
        return trm_error_set_errno(err, errno, "could not map a memory slot of %s", size);
    if (touch && !populate(fd, memory, info.st_size)) {
        (void)trm_error_set_errno(err, errno, "could not allocate a memory slot of %s", size);
        if (err != NULL)
            err->status = TRM_ERR_MEMORY;
        munmap(memory, (size_t)info.st_size);
        return TRM_ERR_MEMORY;
    }
    *out = (struct trm_slot){memory, (size_t)info.st_size};
    return TRM_OK;
}

void trm_slot_unmap(struct trm_slot *slot)
{
    if (slot->memory != NULL)
        munmap(slot->memory, slot->bytes);
    *slot = (struct trm_slot){0};
}

/* The digests, with sizes that are known to be inside. */
static enum trm_status check_digests(const struct trm_slot_head *head, const char *memory,
                                     const struct trm_slot_layout *at, struct trm_error *err)
{
    size_t changing = (size_t)(at->checksums + head->key.slice_count * 8 - at->state);
    size_t fixed = (size_t)(at->rows + head->key.slice_count * TRM_SLICE_ROW_BYTES - at->manifest);
    uint64_t digest = trm_hash64(&head->key, sizeof(head->key));
    if (trm_hash64_seeded(memory + at->state, changing, digest) != head->digest)
        return trm_error_set(err, TRM_ERR_CORRUPT, "its head or checksums fail their digest");
    if (trm_hash64(memory + at->manifest, fixed) != head->key.fixed_digest)
        return trm_error_set(err, TRM_ERR_CORRUPT, "its manifest or slice table fail their digest");
    return TRM_OK;
}

static enum trm_status check_filled(const struct trm_slot *slot, struct trm_slot_layout *layout,
                                    struct trm_error *err)
{
    const struct trm_slot_head *head = trm_slot_head(slot);
    const struct trm_slot_key *key = &head->key;
    if (head->magic != TRM_SLOT_MAGIC)
        return trm_error_set(err, TRM_ERR_CORRUPT, "it does not begin as a memory slot does");
    if (key->version != TRM_SLOT_VERSION || key->state_bytes != sizeof(struct trm_ckpt_state))
        return trm_error_set(err, TRM_ERR_MISMATCH,
                             "it has format version %u and a state of %u bytes; this program has "
                             "version %d and %zu bytes",
                             key->version, key->state_bytes, TRM_SLOT_VERSION,
                             sizeof(struct trm_ckpt_state));
    struct trm_slot_layout made;
    enum trm_status status = trm_slot_layout_of(key, &made, err);
    if (status != TRM_OK)
        return status;
    if (key->image_bytes != made.image_bytes || (uint64_t)made.image_bytes > slot->bytes)
        return trm_error_set(err, TRM_ERR_CORRUPT,
                             "it says it has %lld bytes; its parts need %lld, of %zu",
                             (long long)key->image_bytes, (long long)made.image_bytes, slot->bytes);
    if (key->writer < 0 || key->world_size < 1 || key->writer >= key->world_size ||
        memchr(key->run_id, '\0', sizeof(key->run_id)) == NULL)
        return trm_error_set(err, TRM_ERR_CORRUPT, "it is of rank %d of %d", key->writer,
                             key->world_size);
    status = check_digests(head, slot->memory, &made, err);
    if (status == TRM_OK)
        *layout = made;
    return status;
}

enum trm_status trm_slot_check(const struct trm_slot *slot, struct trm_slot_layout *layout,
                               struct trm_error *err)
{
    int state = atomic_load_explicit(&trm_slot_head(slot)->state, memory_order_acquire);
    if (state != TRM_SLOT_COMPLETE)
        return trm_error_set(err, TRM_ERR_NOT_FOUND, "it holds no complete shard");
    return check_filled(slot, layout, err);
}

enum trm_status trm_slot_receive_end(struct trm_slot *slot, struct trm_error *err)
{
    struct trm_slot_layout layout;
    enum trm_status status = check_filled(slot, &layout, err);
    if (status == TRM_OK)
        atomic_store_explicit(&trm_slot_head(slot)->state, TRM_SLOT_COMPLETE, memory_order_release);
    return status;
}

/* The text has no counters. */
static enum trm_status take_state(const struct trm_slot *slot, const struct trm_slot_layout *at,
                                  struct trm_ckpt_state *state, struct trm_error *err)
{
    const struct trm_slot_key *key = &trm_slot_head(slot)->key;
    struct trm_ckpt_state now;
    memcpy(&now, slot->memory + at->state, sizeof(now));
    if (now.skip_count < 0 || now.skip_count > key->skip_room || now.step != key->step ||
        now.lineage != key->lineage || memcmp(now.run_id, key->run_id, sizeof(now.run_id)) != 0)
        return trm_error_set(err, TRM_ERR_CORRUPT, "its head and its state contradict each other");
    now.skips = calloc((size_t)now.skip_count + 1, sizeof(*now.skips));
    if (now.skips == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for a list of skipped samples");
    memcpy(now.skips, slot->memory + at->skips, (size_t)now.skip_count * sizeof(*now.skips));
    free(state->skips);
    now.config_yaml = state->config_yaml;
    now.fingerprint = state->fingerprint;
    *state = now;
    return TRM_OK;
}

enum trm_status trm_slot_catalog(const struct trm_slot *slot, const struct trm_slot_layout *layout,
                                 struct trm_catalog *catalog, struct trm_error *err)
{
    const struct trm_slot_key *key = &trm_slot_head(slot)->key;
    struct trm_catalog made = {0};
    enum trm_status status = trm_manifest_parse(slot->memory + layout->manifest,
                                                (size_t)key->manifest_bytes, &made, err);
    if (status == TRM_OK)
        status = take_state(slot, layout, &made.state, err);
    if (status == TRM_OK)
        status = trm_catalog_check(&made, err);
    if (status == TRM_OK && (made.file_count != 0 ||
                             (int64_t)trm_type_bytes(made.tensors[0].type) != key->element_bytes))
        status = trm_error_set(err, TRM_ERR_CORRUPT,
                               "its manifest lists %d files, or elements of other sizes",
                               made.file_count);
    if (status == TRM_OK)
        *catalog = made;
    else
        trm_catalog_destroy(&made);
    return status;
}

enum trm_status trm_slot_slices(const struct trm_slot *slot, const struct trm_slot_layout *layout,
                                const struct trm_catalog *catalog, struct trm_slice *slices,
                                const void **data, struct trm_error *err)
{
    const struct trm_slot_key *key = &trm_slot_head(slot)->key;
    struct trm_ckpt_file file = {.slice_count = key->slice_count};
    memcpy(file.data, layout->data, sizeof(file.data));
    enum trm_status status = trm_slices_decode(
        catalog, &file, (const int64_t *)(void *)(slot->memory + layout->rows),
        (const uint64_t *)(void *)(slot->memory + layout->checksums), slices, err);
    for (int64_t i = 0; status == TRM_OK && data != NULL && i < key->slice_count; i++)
        data[i] = slot->memory + layout->data[slices[i].kind].offset +
                  slices[i].offset * (int64_t)key->element_bytes;
    return status;
}

bool trm_slot_roster_entry(const char *roster, size_t bytes, int rank, const char **node,
                           const char **partner)
{
    const char *names[2] = {NULL, NULL}, *at = roster, *end = roster + bytes;
    for (int i = 0; i < 2 * rank + 2; i++) {
        const char *stop = at < end ? memchr(at, '\0', (size_t)(end - at)) : NULL;
        if (stop == NULL)
            return false;
        names[i % 2] = at;
        at = stop + 1;
    }
    *node = names[0];
    *partner = names[1];
    return true;
}
