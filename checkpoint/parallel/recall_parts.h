/* Inside of recall: what recall.c finds, recall_step.c opens and recall_load.c reads. */
#ifndef TRM_CHECKPOINT_PARALLEL_RECALL_PARTS_H
#define TRM_CHECKPOINT_PARALLEL_RECALL_PARTS_H

#include "checkpoint/parallel/opened.h"
#include "checkpoint/parallel/recall.h"
#include "checkpoint/restore.h"
#include "checkpoint/slot.h"

/* One sound slot somewhere, as its rank announces it. */
struct trm_recall_offer {
    struct trm_recall_step step;
    int32_t writer, world_size;
    int32_t copy;          /* enum trm_slot_copy */
    int32_t holder, index; /* rank that speaks for it; its number among its node's slots */
    uint64_t node;         /* its id */
    int64_t slice_count;
    uint64_t digest;          /* the same in both copies */
    uint64_t manifest_digest; /* the same in all slots of a step */
};

#define TRM_RECALL_NOTES      4 /* of each rank; more are counted */
#define TRM_RECALL_NOTE_BYTES 320

struct trm_recall_note {
    char path[128], reason[TRM_RECALL_NOTE_BYTES];
};

struct trm_recall {
    struct trm_recall_settings settings;
    char node[72];
    int local_rank, local_size; /* among the ranks with this keeper */
    struct trm_slot *slots;     /* owned, [slot_count]: of this node */
    bool *freed; /* owned, [slot_count]: by this rank, and perhaps used again since */
    int slot_count;
    int64_t all_slot_count;
    int64_t held_bytes;              /* of all slots of this node */
    struct trm_recall_offer *offers; /* owned, [offer_count]: of all nodes, newest first */
    int offer_count;
    int64_t own_node_bytes, peer_bytes;
    struct trm_recall_note notes[TRM_RECALL_NOTES]; /* not told yet */
    int note_count;
};

bool trm_recall_same_step(const struct trm_recall_step *a, const struct trm_recall_step *b);

/* Keeps a note of this rank, and brings all ranks' to rank 0's passed_over; tell is collective. */
void trm_recall_note(struct trm_recall *recall, const char *path, const char *reason);
enum trm_status trm_recall_tell(struct trm_recall *recall, struct trm_error *err);

/* One offer as a source. `data` is NULL for a slot of another node. */
struct trm_recall_source {
    struct trm_source base;
    const struct trm_recall_offer *offer;
    const void **data;       /* owned, [slice_count] */
    struct trm_slice *table; /* owned by the writer's first source, else NULL */
};

/* A step that is open. */
struct trm_recall_checkpoint {
    struct trm_checkpoint base;
    char path[64];
    struct trm_recall *recall; /* borrowed */
    struct trm_catalog catalog;
    struct trm_recall_source *sources; /* owned, [source_count]: those of this node first */
    struct trm_source **list;          /* owned, the same */
    int source_count;
};

/* recall_load.c */
enum trm_status trm_recall_load(struct trm_comm *comm, struct trm_checkpoint *checkpoint,
                                const struct trm_ckpt_piece *pieces, int piece_count,
                                int64_t *bytes_read, struct trm_error *err);

#endif
