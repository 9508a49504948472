/*
 * Float reductions in the fixed order of the summing tree: libraries move bytes, only our own code
 * adds: this file in host memory, a kernel that does the same in a device's (trm_comm_sum).
 *
 * A reduction over ranks r = 0..n-1 that holds one operand per rank brackets them as n lanes do
 * (lanes.h). Exchange, then an ordered sum in blocks that stay in the cache.
 */
#ifndef TRM_COLLECTIVES_ORDERED_H
#define TRM_COLLECTIVES_ORDERED_H

#include "collectives/comm.h"
#include "collectives/lanes.h"

/* operands[target] += operands[source] for each add, over `count` elements. Vectorised, threaded
 * over blocks; the bits depend on neither. Operands don't overlap. */
void trm_ordered_sum(void *const *operands, const struct trm_lane_add *adds, int add_count,
                     size_t count, enum trm_type type);

/* target += source, elementwise: a lane merge. */
void trm_ordered_add(void *target, const void *source, size_t count, enum trm_type type);

/* All-reduce of one operand per rank, in place (tensor-parallel sums), where the buffers of `comm`
 * lie. Float32 and float64; on a device bfloat16 too, added in float32 and rounded once. */
struct trm_ordered_all_reduce;

/* Bytes of staging for reductions of up to `max_count` elements; 0 for one rank. */
size_t trm_ordered_all_reduce_bytes(const struct trm_comm *comm, size_t max_count,
                                    enum trm_type type);

/* Not collective. Borrows comm and staging (of the size above; aligned to 64 bytes). */
enum trm_status trm_ordered_all_reduce_create(struct trm_comm *comm, size_t max_count,
                                              enum trm_type type, void *staging,
                                              struct trm_ordered_all_reduce **out,
                                              struct trm_error *err);
void trm_ordered_all_reduce_destroy(struct trm_ordered_all_reduce *reduce);

/* Collective. In place over `count` <= max_count elements at `data`; the same bits on every rank,
 * the payloads of NaNs apart. The caller's stream waits for it (comm.h). */
enum trm_status trm_ordered_all_reduce_run(struct trm_ordered_all_reduce *reduce, void *data,
                                           size_t count, struct trm_error *err);

/* Its first half over data[size][count], with size x count <= max_count: block `rank` becomes its
 * sum, in place, the same bits as by the whole. The other blocks are left as they were. The second
 * half is trm_comm_all_gather. */
enum trm_status trm_ordered_reduce_scatter_run(struct trm_ordered_all_reduce *reduce, void *data,
                                               size_t count, struct trm_error *err);

#endif
