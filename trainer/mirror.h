/*
 * ★ trm_mirror: the host's side of a run whose tensors lie on a device.
 *
 * Checkpoints, snapshots and copies in memory are made of host memory. Where tensors lie on a
 * device, this rank's share of the state has a mirror in page-locked memory: what is loaded goes
 * from there to the device, and what is saved comes there first, beside the ops, while the next
 * step's forward and backward pass run; only the update, which changes the state, must not begin
 * before. So the caller begins a fetch, goes on, and waits for it before it queues the update.
 *
 * The same memory stages tokens on their way to the device, and holds what the host reads of a
 * step. Where tensors lie in the host's memory there is no mirror: the state is its own, and the
 * calls do nothing.
 *
 * Not collective. Memory: trm_mirror_bytes, allocated at set-up.
 */
#ifndef TRM_TRAINER_MIRROR_H
#define TRM_TRAINER_MIRROR_H

#include "trainer/pieces.h"
#include "trainer/run.h"

size_t trm_mirror_bytes(const struct trm_run *run);
enum trm_status trm_mirror_open(struct trm_run *run, struct trm_error *err);
void trm_mirror_close(struct trm_run *run);

/* Where checkpoints find and put this rank's share. */
struct trm_pieces_memory trm_mirror_state(const struct trm_run *run);

/* The mirror is to become what the work queued so far leaves; nothing is queued when it is that
 * already. */
void trm_mirror_fetch(struct trm_run *run);

/* Until the mirror is that. Without it the mirror may not be read, nor the state be changed. */
enum trm_status trm_mirror_wait(struct trm_run *run, struct trm_error *err);

/* The device's state becomes the mirror's: of all ranks' parameters, this rank's own. Waits. */
enum trm_status trm_mirror_send(struct trm_run *run, struct trm_error *err);

/* The device's state is about to change, and the mirror is no longer that. */
void trm_mirror_forget(struct trm_run *run);

/* `count` tokens of a batch, at most this rank's of a step, on the device, or where they are when
 * that is the host; valid until the next call. What came before must have been read by then. */
void trm_mirror_send_tokens(struct trm_run *run, const struct trm_batch *batch, int64_t count,
                            const int32_t **inputs, const int32_t **targets);

#endif
