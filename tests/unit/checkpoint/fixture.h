/*
 * What checkpoint tests share: a small model whose every element has a known value, cut as a run of
 * tensor x data ranks would cut it, and written without ranks.
 */
#ifndef TRM_TESTS_CHECKPOINT_FIXTURE_H
#define TRM_TESTS_CHECKPOINT_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/file.h"
#include "checkpoint/catalog.h"

#define FIXTURE_TENSORS 5

extern const struct trm_ckpt_tensor fixture_tensors[FIXTURE_TENSORS];

/* The element (row, column) of a tensor in one kind, at a step. */
float fixture_value(int64_t step, int tensor, enum trm_ckpt_kind kind, int64_t row, int64_t column);

/* A state with text, skips and losses in it; static strings, not to be destroyed. */
struct trm_ckpt_state fixture_state(int64_t step);

/* The pieces of one rank of tensor_size x data_size, with memory of their own. */
struct fixture_pieces {
    struct trm_ckpt_piece *pieces;
    int count;
    float *memory;
    int64_t elements;
};

/* `rank` = data_rank * tensor_size + tensor_rank. Filled with the values of `step`, or with NaN for
 * step < 0. */
struct fixture_pieces fixture_pieces_of(int tensor_size, int data_size, int rank, int64_t step);
void fixture_pieces_free(struct fixture_pieces *pieces);

/* The first element that is not what `step` says, as a sentence; NULL when all are right. */
const char *fixture_wrong(const struct fixture_pieces *pieces, int64_t step, char text[128]);

/* Saves `state->step` into `directory` as tensor_size x data_size ranks would. Asserts success. */
void fixture_save(const char *directory, const struct trm_ckpt_state *state, int tensor_size,
                  int data_size);

/* The same where `group` ranks share a shard. */
void fixture_save_grouped(const char *directory, const struct trm_ckpt_state *state,
                          int tensor_size, int data_size, int group);

/* The same with the values of another step; NaN for value_step < 0. */
void fixture_save_values(const char *directory, const struct trm_ckpt_state *state,
                         int64_t value_step, int tensor_size, int data_size);

/* An empty directory of this test's own; removed by fixture_directory_free. */
void fixture_directory(char path[TRM_PATH_BYTES]);
void fixture_directory_free(const char *path);

/* Flips one bit of a file. */
void fixture_flip(const char *path, int64_t byte, int bit);

#define assert_ok(status, err)          \
    do {                                \
        if ((status) != TRM_OK)         \
            fail_msg("%s", (err).text); \
    } while (0)

#endif
