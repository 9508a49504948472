/*
 * Token files as samples in a fixed order.
 *
 * A sample is seq_length + 1 consecutive tokens: seq_length inputs and, one further, their targets.
 * A file of n tokens holds floor((n - 1) / seq_length) samples, cut one after the other. Which
 * sample has number i is a pure function of (seed, files, weights, i): O(1) to seek, and
 * independent of ranks, lanes and the planned number of steps.
 *
 * Without weights all files together are one stream: each epoch is one permutation of all their
 * samples, keyed by (seed, epoch). With weights each file is a stream of its own: in each block of
 * 65,536 samples file f owns a quantised number of slots (largest remainder of its weight), dealt
 * by a permutation keyed by the block; a slot's ordinal in its file gives epoch and index, and the
 * index goes through a permutation keyed by (seed, file, epoch). Either way no sample comes twice
 * within an epoch of its stream. A file is keyed by its place in the list, not by its name.
 *
 * Files are mapped read-only; every token that is read is checked against the vocabulary, and the
 * first and last 65,536 of each file at open. Memory: about 1 KiB per file. Not changed after open:
 * threads may share it.
 */
#ifndef TRM_TRAINER_DATA_DATASET_H
#define TRM_TRAINER_DATA_DATASET_H

#include <stdint.h>

#include "base/status.h"

struct trm_dataset;

enum trm_dataset_part { TRM_PART_TRAIN, TRM_PART_VALID };

struct trm_dataset_settings {
    const char *const
        *paths; /* each "PATH", or each "WEIGHT PATH"; a Megatron pair by prefix too */
    int path_count;
    int64_t seq_length;
    int64_t vocab_size; /* tokens must be below */
    uint64_t seed;
    int raw_token_bytes;         /* 2 or 4, for files without a header */
    double part_begin, part_end; /* fraction of each file's samples to use: [0, 0.95) */
    enum trm_dataset_part part;  /* keys the order apart */
};

/* Borrows settings and paths for the call. TRM_ERR_INPUT naming file and offset for anything wrong
 * with a file or a weight. *out is returned owned. */
enum trm_status trm_dataset_open(const struct trm_dataset_settings *settings,
                                 struct trm_dataset **out, struct trm_error *err);
void trm_dataset_close(struct trm_dataset *dataset);

/* Samples of one epoch over all files. */
int64_t trm_dataset_samples(const struct trm_dataset *dataset);

int64_t trm_dataset_seq_length(const struct trm_dataset *dataset);

int trm_dataset_file_count(const struct trm_dataset *dataset);

/* One file, for a line at start or a message. */
struct trm_dataset_file {
    const char *path;   /* borrowed from the dataset */
    const char *format; /* "llm.c", "megatron" or "raw"; static */
    int64_t tokens;     /* of the whole file */
    int64_t samples;    /* of the part that is used */
    double share;       /* of the samples that are read */
};
struct trm_dataset_file trm_dataset_file(const struct trm_dataset *dataset, int file);

struct trm_sample_place {
    int file;
    int64_t epoch, index; /* the index-th window of the file; the epoch is its stream's */
};

/* Where sample `number` (0, 1, ...: never ends) lies. Pure. */
struct trm_sample_place trm_dataset_place(const struct trm_dataset *dataset, int64_t number);

/* tokens[seq_length + 1] of sample `number`. TRM_ERR_INPUT naming file and byte offset when a token
 * is not below vocab_size. */
enum trm_status trm_dataset_read(const struct trm_dataset *dataset, int64_t number, int32_t *tokens,
                                 struct trm_error *err);

#endif
