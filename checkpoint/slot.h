/*
 * A memory slot: one rank's shard of one step in memory that outlives the rank.
 *
 * The memory is a memfd that the node's agent holds and lends to ranks. A slot describes itself, so
 * a process that never saw the writer can read it:
 *
 *   head       one page (slot_head.h): state, what it is, sizes, digest
 *   state      struct trm_ckpt_state without its pointers, and the skipped samples
 *   checksums  XXH3-64 of each slice
 *   fixed      manifest text (manifest.h; configuration, fingerprint, tensors, no files), roster,
 *              slice table (slice.h): the same in all slots of a rank for an attempt's life
 *   data       as in a shard: a block for each kind, at multiples of 4 KiB
 *
 * Two digests cover everything before the data, the checksums cover the data. They are taken of the
 * live state while it is copied, so a copy that came out wrong fails them as damage does. Nothing
 * of a slot is believed before its digests agree, and sizes are checked before anything is looked
 * at. A slot is written by one process at a time; taking one copies and allocates nothing.
 *
 * The roster names, for each rank of the run that wrote the slot, its node and its partner's node,
 * so that what is missing can be named when both are gone.
 */
#ifndef TRM_CHECKPOINT_SLOT_H
#define TRM_CHECKPOINT_SLOT_H

#include "checkpoint/slice.h"
#include "checkpoint/slot_head.h"

/* Mapped memory of a slot. */
struct trm_slot {
    char *memory; /* NULL: none */
    size_t bytes;
};

static inline struct trm_slot_head *trm_slot_head(const struct trm_slot *slot)
{
    return (struct trm_slot_head *)(void *)slot->memory;
}

/* Maps all of a memfd (which stays the caller's). With `touch` its pages are allocated and mapped
 * now: TRM_ERR_MEMORY when the machine has not got them. */
enum trm_status trm_slot_map(int fd, bool touch, struct trm_slot *out, struct trm_error *err);
void trm_slot_unmap(struct trm_slot *slot); /* takes an empty one too */

/* Where the parts of a slot lie, from its start. */
struct trm_slot_layout {
    int64_t state, skips, checksums, manifest, roster, rows;
    struct trm_ckpt_range data[TRM_KIND_COUNT];
    int64_t image_bytes;
};

/* Pure. TRM_ERR_CORRUPT naming a size that is out of bounds. */
enum trm_status trm_slot_layout_of(const struct trm_slot_key *key, struct trm_slot_layout *out,
                                   struct trm_error *err);

/* What all slots that a rank writes have in common. */
struct trm_slot_form {
    struct trm_slot_key key; /* but for lineage, step and run id */
    struct trm_slot_layout layout;
    const struct trm_slice_set *live; /* borrowed: where the state lies that is trained on */
    char *fixed;                      /* owned: the fixed part */
};

/* `catalog`: state, tensors and kinds; no files. `roster`: as trm_slot_roster_entry reads it; both
 * are copied. *out is to be destroyed by the caller, and written on success alone. */
enum trm_status trm_slot_form_create(const struct trm_catalog *catalog,
                                     const struct trm_slice_set *live, const char *roster,
                                     size_t roster_bytes, int writer, int world_size,
                                     int64_t attempt, struct trm_slot_form *out,
                                     struct trm_error *err);
void trm_slot_form_destroy(struct trm_slot_form *form);

/* Whether the state's list of skipped samples fits. */
bool trm_slot_form_fits(const struct trm_slot_form *form, const struct trm_ckpt_state *state);

/* Writing: begin notes the counters as they are now and makes the slot one that holds nothing; fill
 * copies the live state with its checksums and completes it. Fill may run in another thread; the
 * live state must not change meanwhile. Requires form->layout.image_bytes of memory. */
void trm_slot_begin(struct trm_slot *slot, const struct trm_slot_form *form,
                    const struct trm_ckpt_state *state);
void trm_slot_fill(struct trm_slot *slot, const struct trm_slot_form *form);

/* What has to travel for a copy elsewhere, in a slot of `image_bytes` or more. */
void *trm_slot_message(const struct trm_slot *slot, int64_t image_bytes, size_t *bytes);

/* The receiving side: begin before anything arrives, end when all is there. End checks the digests
 * and completes the slot. */
void trm_slot_receive_begin(struct trm_slot *slot);
enum trm_status trm_slot_receive_end(struct trm_slot *slot, struct trm_error *err);

/* What it held is forgotten. */
void trm_slot_free(struct trm_slot *slot);

/* Reading. Checks all but the data: TRM_ERR_NOT_FOUND when it is not complete, TRM_ERR_CORRUPT when
 * it is damaged, TRM_ERR_MISMATCH when another build wrote it. */
enum trm_status trm_slot_check(const struct trm_slot *slot, struct trm_slot_layout *layout,
                               struct trm_error *err);

/* Of a checked slot: the catalog (without files; to be destroyed by the caller), and its slices
 * with where their data lie; slices[key.slice_count] and data[key.slice_count] are the caller's,
 * data may be NULL. */
enum trm_status trm_slot_catalog(const struct trm_slot *slot, const struct trm_slot_layout *layout,
                                 struct trm_catalog *catalog, struct trm_error *err);
enum trm_status trm_slot_slices(const struct trm_slot *slot, const struct trm_slot_layout *layout,
                                const struct trm_catalog *catalog, struct trm_slice *slices,
                                const void **data, struct trm_error *err);

/* Node and partner's node of rank `rank` ("" where there is none), of a roster: two NUL-terminated
 * names for each rank. False when it has no such entry. */
bool trm_slot_roster_entry(const char *roster, size_t bytes, int rank, const char **node,
                           const char **partner);

#endif
