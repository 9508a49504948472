/*
 * ★ trm_partner: copies of the newest state in memory, each shard twice: on its own node, and on
 * one in another failure domain.
 *
 * Slots (checkpoint/slot.h) come from a keeper that outlives this process. A rank has two of its
 * own, and two for each rank whose partner it is; they are filled in turn, so a copy that is under
 * way never touches the newest complete one. A copy goes like this:
 *
 *   begun      counters are noted, and a thread copies the live state into the own slot
 *   travelling the copy is done: an exchange sends it to the partner, and receives those of others
 *   here       all of that is over on this rank
 *   complete   on all ranks: the older one may now be overwritten
 *
 * Training goes on meanwhile. The state changes only where the optimizer updates it, so the caller
 * calls trm_partner_join before that, and nothing else may write the state. The exchange has a
 * communicator of its own and is never waited for while training: it goes on whenever this module
 * is called. Whether copies are here is agreed with words that the caller reduces along with
 * something it reduces anyway, as with a saver (saver.h):
 *
 *   status = trm_partner_report(partner, words, err);           all ranks
 *   ... all-reduce the words by TRM_MAX_I64 ...
 *   status = trm_partner_advance(partner, words, state, err);   may begin the next copy
 *
 * A failure of communication ends its use, as it does the run's. One thread makes all calls; it
 * starts one more, which copies and hashes. Memory: the slots, and tables of 100 bytes per slice;
 * nothing is allocated after the second set of slots was taken.
 */
#ifndef TRM_CHECKPOINT_PARALLEL_PARTNER_H
#define TRM_CHECKPOINT_PARALLEL_PARTNER_H

#include "checkpoint/catalog.h"
#include "checkpoint/parallel/keeper.h"
#include "checkpoint/parallel/pace.h"
#include "collectives/comm.h"

#define TRM_PARTNER_SETS 2 /* of slots; a copy is in one, the next in the other */

struct trm_partner;

enum trm_partner_event_kind {
    TRM_PARTNER_COMPLETE, /* a copy of `step` is complete on all ranks */
    TRM_PARTNER_PACED,    /* the interval was chosen, or changed much */
    TRM_PARTNER_FULL      /* a copy of `step` is left out: its list of skips has no room */
};

struct trm_partner_event {
    enum trm_partner_event_kind kind;
    int64_t step;
    int64_t bytes;       /* COMPLETE: of this rank's shard */
    double copy_seconds; /* COMPLETE: of the copying thread, on a core */
    double held_seconds; /* COMPLETE: how long training stood still for it, on this rank */
    int64_t interval;    /* PACED */
    double cost_share;   /* PACED: of the time that goes into copies, at most */
};

/* Called from start and advance. */
typedef void (*trm_partner_event_fn)(void *context, const struct trm_partner_event *event);

/* Called from there too, before the state is read for a copy: fetches it to where `pieces` says. It
 * must not change from then on until the join. */
typedef enum trm_status (*trm_partner_prepare_fn)(void *context, struct trm_error *err);

struct trm_partner_settings {
    struct trm_comm *world; /* borrowed */
    struct trm_slot_keeper keeper;
    const char *node, *domain; /* of this rank; what is in one domain is lost together */
    int64_t attempt;
    int64_t interval;                      /* steps, or TRM_PACE_AUTO */
    const struct trm_ckpt_state *state;    /* its configuration and fingerprint are copied */
    const struct trm_ckpt_tensor *tensors; /* copied; equal on all ranks */
    int tensor_count;
    const struct trm_ckpt_piece *pieces; /* their data is borrowed: the state itself. Those of all
                                            ranks cover every tensor once (saver.h holds to it) */
    int piece_count;
    trm_partner_prepare_fn prepare; /* NULL: the state lies there */
    trm_partner_event_fn event;
    void *context;
};

/* Bytes of slots that a rank needs for a shard of `elements` elements, all kinds together: both
 * sets, its own and one partner's. For a plan; text and tables are taken to have 256 KiB. */
int64_t trm_partner_plan_bytes(int64_t elements, enum trm_type type);

/* Collective; agreed. Takes the first set of slots. *out is returned owned. */
enum trm_status trm_partner_create(const struct trm_partner_settings *settings,
                                   struct trm_partner **out, struct trm_error *err);

/* Collective; agreed. Copies the state and waits until that is complete: before the first step. */
enum trm_status trm_partner_start(struct trm_partner *partner, const struct trm_ckpt_state *state,
                                  struct trm_error *err);

/* Collective; agreed. Takes the second set of slots, without which no copy begins any more. */
enum trm_status trm_partner_double(struct trm_partner *partner, struct trm_error *err);

/* Not collective. Lets what is under way go on. `step_ns`: what the newest step took, 0 when there
 * is none since the last report. All below take NULL, and do nothing. */
#define TRM_PARTNER_WORDS (1 + TRM_PACE_WORDS)
enum trm_status trm_partner_report(struct trm_partner *partner, int64_t step_ns,
                                   int64_t words[TRM_PARTNER_WORDS], struct trm_error *err);

/* Not collective, but made by all ranks with the same words. `state` is equal on all ranks. */
enum trm_status trm_partner_advance(struct trm_partner *partner,
                                    const int64_t words[TRM_PARTNER_WORDS],
                                    const struct trm_ckpt_state *state, struct trm_error *err);

/* Not collective; cheap. Lets what is under way go on; a failure is told by the next join. */
void trm_partner_poll(struct trm_partner *partner);

/* Not collective. Until the thread is done with the live state. */
enum trm_status trm_partner_join(struct trm_partner *partner, struct trm_error *err);

/* Collective. Until nothing is under way: before the state is replaced, and at the end. */
enum trm_status trm_partner_wait(struct trm_partner *partner, struct trm_error *err);

/* The newest step whose copy is complete, -1: none yet. */
int64_t trm_partner_step(const struct trm_partner *partner);

/* Copies that were completed, and seconds that training stood still for them here. */
void trm_partner_totals(const struct trm_partner *partner, int64_t *copies, double *held_seconds,
                        double *copy_seconds, double *cost_share);

/* Which node's copies go to which: "node1 to node3, node3 to node1". Returns text. */
char *trm_partner_describe(const struct trm_partner *partner, char *text, size_t text_bytes);

/* Collective; leaves the slots as they are. What is under way has been waited for, or communication
 * failed. */
void trm_partner_destroy(struct trm_partner *partner);

#endif
