/* Inside of partner: what partner_set_up.c makes and partner.c works with. */
#ifndef TRM_CHECKPOINT_PARALLEL_PARTNER_PARTS_H
#define TRM_CHECKPOINT_PARALLEL_PARTNER_PARTS_H

#include "checkpoint/parallel/partner.h"
#include "checkpoint/parallel/partner_roster.h"
#include "checkpoint/slot.h"
#include "checkpoint/writer.h"

/* Of the newest copy; see partner.h. */
enum trm_partner_phase {
    TRM_PARTNER_IDLE,
    TRM_PARTNER_COPYING,
    TRM_PARTNER_TRAVELLING,
    TRM_PARTNER_HERE
};

struct trm_partner_set {
    struct trm_slot own;
    struct trm_slot *wards; /* owned, [ward_count] */
};

struct trm_partner {
    struct trm_partner_settings settings; /* pieces, tensors and state are not looked at any more */
    struct trm_comm *comm;                /* of its own */
    struct trm_request *request;
    struct trm_slice_set live;
    struct trm_slot_form form;
    struct trm_partner_roster roster;
    int64_t slot_bytes;                 /* of each slot: what the largest shard needs */
    struct trm_message send, *receives; /* receives: owned, [ward_count] */
    struct trm_partner_set sets[TRM_PARTNER_SETS];
    int set_count;

    struct trm_pace pace;
    struct trm_writer *thread;
    struct trm_task task;
    int64_t copy_ns; /* of the thread, on a core; the task's result */
    enum trm_partner_phase phase;
    int64_t copies;              /* begun */
    int64_t step, complete_step; /* of the newest that was begun, that is complete */
    int64_t lineage;
    int64_t held_ns; /* by the copy under way */
    struct trm_error failure;

    int64_t completed;
    double held_seconds, copy_seconds; /* of all that were completed */
};

#endif
