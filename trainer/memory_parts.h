/* Inside of the memory tier: what memory_tier.c runs and memory_restore.c begins from. */
#ifndef TRM_TRAINER_MEMORY_PARTS_H
#define TRM_TRAINER_MEMORY_PARTS_H

#include "checkpoint/parallel/recall.h"
#include "trainer/memory_tier.h"

struct trm_memory_tier {
    struct trm_slot_keeper keeper;
    char host[72];
    const char *domain;              /* what is lost together with this rank */
    bool alone;                      /* all ranks are in one domain: no partners */
    struct trm_recall *recall;       /* until the first copies are made */
    struct trm_recall_step restored; /* what the run goes on from */
    bool has_restored;
    struct trm_partner *partner;
    int64_t step_ns; /* of the newest step, 0 once it was reported */
};

/* Collective, unless communication failed: what went wrong is told, and the run goes on without. */
enum trm_status trm_memory_do_without(struct trm_run *run, enum trm_status status, const char *what,
                                      struct trm_error *err);

/* Collective. Looks at what is in the memory of the nodes: tier->recall, NULL when that failed. */
enum trm_status trm_memory_recall(struct trm_run *run, struct trm_error *err);

#endif
