/*
 * Who holds up a run that does not go on, and who slows it down; pure: from flight records to
 * culprits and a sentence.
 *
 * Ranks wait for each other in collectives, which are numbered alike in each group, so whoever has
 * entered fewer than the number that another waits for is late there. Some of the late ones wait
 * themselves, in another group, for others: whoever is late and waits for nobody is a culprit.
 * Processes that were stopped or are gone come first, whatever the numbers say. A rank that is late
 * in an I/O phase is told as waiting for storage, which is no hang until much later; so are all
 * when all wait for a save, whatever their numbers at the moment.
 *
 * The list need not hold all ranks: a node sees its own.
 */
#ifndef TRM_COLLECTIVES_VERDICT_H
#define TRM_COLLECTIVES_VERDICT_H

#include "collectives/flight_view.h"
#include "collectives/tally.h"

enum trm_verdict_kind {
    TRM_VERDICT_NONE,      /* no rank is in the list, or all have left with a word */
    TRM_VERDICT_GONE,      /* the culprit's process is gone, or it has left while others run */
    TRM_VERDICT_STOPPED,   /* a signal or a debugger has stopped it */
    TRM_VERDICT_LATE,      /* it did not arrive where others wait */
    TRM_VERDICT_ABSENT,    /* it has started what others wait for, and does not get on with it */
    TRM_VERDICT_STILL,     /* nobody waits for another; those who compute don't get on */
    TRM_VERDICT_STORAGE,   /* who is late waits for storage */
    TRM_VERDICT_STUCK,     /* all have arrived, and the operation does not complete: the network */
    TRM_VERDICT_CROSSED,   /* they wait for each other at different collectives */
    TRM_VERDICT_ELSEWHERE, /* all here wait, for ranks that are not in the list */
    TRM_VERDICT_KIND_COUNT
};

/* One word for logs and JSON: "late"; static. */
const char *trm_verdict_kind_name(enum trm_verdict_kind kind);

#define TRM_VERDICT_LISTED 16 /* ranks that are listed; the counts count all */

struct trm_verdict {
    enum trm_verdict_kind kind;
    int culprit_count;
    int culprits[TRM_VERDICT_LISTED]; /* indexes into the list; the one described is the first */
    /* Where the first culprit is missed, or (STUCK, CROSSED, ELSEWHERE) what the one who waits
     * longest waits for; number 0: nowhere. */
    enum trm_flight_group group;
    int64_t number;
    enum trm_flight_operation operation;
    int64_t step; /* that is under way there, or done after the last; -1: before the first */
    int waiter_count, other_waiter_count; /* there, and elsewhere */
    int waiters[TRM_VERDICT_LISTED];      /* indexes into the list */
    int64_t waited_ms;                    /* by the one of them who waits longest */
};

/* `ranks` in any order, each rank once; mesh sizes are taken from them. Some looks at each of them;
 * scratch[TRM_TALLY_PLACES(count)] is the caller's, and holds nothing afterwards. */
void trm_verdict_find(const struct trm_flight_view *ranks, int count, struct trm_tally *scratch,
                      struct trm_verdict *out);

/* The sentence, for example: rank 3 on node2 did not arrive at all-reduce 412 of the data group
 * (step 118): in forward for 6.2 s, stopped by a signal; ranks 0, 1 and 2 wait for 6.1 s.
 * nodes[i] is where ranks[i] runs; `nodes` or one of them may be NULL. */
void trm_verdict_describe(const struct trm_verdict *verdict, const struct trm_flight_view *ranks,
                          const char *const *nodes, char *text, size_t text_bytes);

#endif
