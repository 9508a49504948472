/*
 * The first page of a memory slot (slot.h): all that the process which holds slots for others needs
 * to know of one.
 *
 * Bookkeeping comes first and is this slot's own. What follows says what the slot holds; it is the
 * same in every copy of a shard, and covered by `digest`. Native byte order: slots are passed
 * between processes of one build, and never stored.
 */
#ifndef TRM_CHECKPOINT_SLOT_HEAD_H
#define TRM_CHECKPOINT_SLOT_HEAD_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define TRM_SLOT_MAGIC      UINT64_C(0x31746f6c736d7274) /* "trmslot1" */
#define TRM_SLOT_VERSION    1
#define TRM_SLOT_HEAD_BYTES 4096
#define TRM_SLOT_OWN_BYTES  64 /* of bookkeeping, at the start */

/* Zeroed memory is a free slot. */
enum trm_slot_state { TRM_SLOT_FREE, TRM_SLOT_WRITING, TRM_SLOT_COMPLETE };

/* Whose shard it is: the holder's own, or that of a rank whose partner it is. */
enum trm_slot_copy { TRM_SLOT_OWN, TRM_SLOT_PARTNER };

struct trm_slot_key {
    uint32_t version;
    uint32_t state_bytes; /* sizeof(struct trm_ckpt_state) of the writer's build */
    char run_id[40];
    int64_t lineage, step;
    int64_t attempt; /* that wrote it */
    int32_t writer, world_size;
    int32_t element_bytes;
    int32_t reserved;
    int64_t slice_count;
    int64_t skip_room;
    int64_t manifest_bytes, roster_bytes;
    int64_t elements[3]; /* of each kind, in this shard */
    int64_t image_bytes; /* head to end of data */
    uint64_t fixed_digest;
};

struct trm_slot_head {
    uint64_t magic;
    _Atomic int32_t state; /* enum trm_slot_state */
    int32_t copy;          /* enum trm_slot_copy */
    int64_t reserved[6];
    struct trm_slot_key key;
    uint64_t digest;
};

_Static_assert(offsetof(struct trm_slot_head, key) == TRM_SLOT_OWN_BYTES,
               "bookkeeping comes first");
_Static_assert(sizeof(struct trm_slot_head) <= TRM_SLOT_HEAD_BYTES, "one page");

#endif
