/*
 * Which algorithms multiply matrices on a device whose library has several: they decide bits, so a
 * run settles them once and for good.
 *
 * At its start rank 0 times a few for each product of a forward and backward pass (that pass is
 * thrown away), and all ranks take what it chose. From then on they are part of the fingerprint
 * that checkpoints carry, so an attempt on the same GPUs and library, on any number of ranks, goes
 * on with the same. `matmul_search: false` takes the library's first choice instead, which is the
 * same in every run. On CPUs there is nothing to settle.
 *
 * A fingerprint is the words of trm_device_describe, and, where algorithms were settled, a line
 * feed, "algorithms 1 " and their bytes in hexadecimal digits, without zeros at the end.
 */
#ifndef TRM_TRAINER_ALGORITHMS_H
#define TRM_TRAINER_ALGORITHMS_H

#include "trainer/run.h"

/* Length of the words, without what may follow them. */
int trm_algorithms_words(const char *fingerprint);

/* Of the same device and library? */
bool trm_algorithms_alike(const char *fingerprint, const char *other);

/* Not collective. This run's fingerprint becomes that of a checkpoint which is alike and has
 * algorithms, unless it has some. */
enum trm_status trm_algorithms_take(struct trm_run *run, const char *fingerprint,
                                    struct trm_error *err);

/* Collective; agreed. After the state was begun and before the first step: the device uses what the
 * fingerprint has, or what a search finds, which the fingerprint then has. */
enum trm_status trm_algorithms_settle(struct trm_run *run, struct trm_error *err);

#endif
