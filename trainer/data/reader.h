/*
 * A thread that reads batches ahead of the step.
 *
 * The reader walks the sample numbers from a position on: step by step a global batch of
 * `global_batch` numbers, of which this rank takes the micro-batches it was told. Numbers on the
 * skip list are passed over. It owns one thread, which touches the dataset and the reader's own
 * buffers only and takes no signals, and depth + 1 batches of memory (the one in use and those
 * ahead), allocated at creation. One thread at a time calls it.
 *
 * The position is the number of samples consumed; with the skip list it decides everything that
 * follows. The rolling hash covers every sample number and place of the global batch, so it is
 * equal on all ranks and layouts.
 *
 * An error in the data comes with the batch it lies in, not before, and from then on every call
 * returns it: a rank that does not read the bad sample does not see it, so agree the status.
 */
#ifndef TRM_TRAINER_DATA_READER_H
#define TRM_TRAINER_DATA_READER_H

#include "trainer/data/dataset.h"

struct trm_reader;

/* Sample numbers [first, first + count) are never trained on. */
struct trm_skip {
    int64_t first, count;
};

struct trm_reader_settings {
    int64_t global_batch;   /* samples per step, over all ranks */
    int64_t micro_batch;    /* samples per micro-batch */
    const int64_t *offsets; /* [micro_batches]: where each of this rank's micro-batches starts */
    int micro_batches;      /* in the global batch, in the order of execution; may be 0 */
    int64_t next_number;    /* first sample number not consumed (skipped ones counted in) */
    uint64_t data_hash;     /* rolling hash up to there */
    const struct trm_skip *skips; /* [skip_count], ascending and disjoint */
    int skip_count;
    int depth; /* batches read ahead, >= 1 */
};

struct trm_batch {
    const int32_t *inputs;  /* [micro_batches][micro_batch * seq_length] */
    const int32_t *targets; /* the same shape */
    int64_t next_number;    /* after this batch */
    uint64_t data_hash;     /* after this batch */
};

/* Borrows the dataset; copies offsets and skips. Requires offsets within the global batch and
 * depth >= 1. TRM_ERR_CONFIG for a position or a skip list that cannot be, TRM_ERR_MEMORY. *out is
 * returned owned. */
enum trm_status trm_reader_create(const struct trm_dataset *dataset,
                                  const struct trm_reader_settings *settings,
                                  struct trm_reader **out, struct trm_error *err);

/* Stops and joins the thread, also in the middle of a batch. Takes NULL. */
void trm_reader_destroy(struct trm_reader *reader);

/* The next global batch's share; valid until the next call. Waits for the thread if need be. */
enum trm_status trm_reader_next(struct trm_reader *reader, struct trm_batch *batch,
                                struct trm_error *err);

#endif
