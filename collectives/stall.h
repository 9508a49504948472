/*
 * How long nothing has got on, and whether that is too long; pure. A run gets on when any word of
 * any rank's record changes: phase, step, a collective entered or completed (but for ranks that
 * wait for a save, which ask each other all the time whether it is done). What is too long follows
 * the steps it has taken: a factor times the recent step, with a floor and a ceiling, which alone
 * counts before the first step is done; waiting for storage has a limit of its own.
 */
#ifndef TRM_COLLECTIVES_STALL_H
#define TRM_COLLECTIVES_STALL_H

#include "collectives/verdict.h"

/* Keys progress_timeout_*, io_timeout_ms of the section `recovery`. */
struct trm_stall_limits {
    double factor;
    int64_t floor_ms, ceiling_ms; /* ceiling 0: for ever */
    int64_t io_ms;                /* 0: for ever */
};

struct trm_stall {
    uint64_t signature; /* of all words */
    int64_t since_ns;   /* of the newest change */
    int64_t seen_ns;    /* of the newest look */
    int64_t step;       /* newest of all */
    double step_ms;     /* recent: the longest, forgotten by a tenth each step */
};

void trm_stall_init(struct trm_stall *stall, int64_t now_ns);

/* Takes note of all records at `now_ns`. A gap of more than `gap_ns` since the last look is an
 * observer that was itself stopped, or a machine that slept: it counts as a change. */
void trm_stall_observe(struct trm_stall *stall, const struct trm_flight_view *ranks, int count,
                       int64_t now_ns, int64_t gap_ns);

/* Since the newest change, at the newest look. */
int64_t trm_stall_ms(const struct trm_stall *stall);

/* How long a run may stand still whose verdict is of this kind; INT64_MAX: for ever. */
int64_t trm_stall_limit_ms(const struct trm_stall *stall, const struct trm_stall_limits *limits,
                           enum trm_verdict_kind kind);

#endif
