/*
 * A tensor: a typed, strided view of memory that it does not own. Up to four dimensions; strides
 * count elements, so a transpose is a view. Small: passed by value.
 */
#ifndef TRM_TRAINER_OPS_TENSOR_H
#define TRM_TRAINER_OPS_TENSOR_H

#include <stddef.h>
#include <stdint.h>

#include "base/type.h"

#define TRM_MAX_DIMS 4

struct trm_tensor {
    void *data;
    enum trm_type type;
    float scale; /* stored value times scale is meant: 1 but for 8-bit types */
    int dims;
    int64_t shape[TRM_MAX_DIMS];
    int64_t stride[TRM_MAX_DIMS];
};

/* Contiguous row-major views of `data`. */
struct trm_tensor trm_tensor_1d(void *data, enum trm_type type, int64_t n);
struct trm_tensor trm_tensor_2d(void *data, enum trm_type type, int64_t rows, int64_t columns);
struct trm_tensor trm_tensor_4d(void *data, enum trm_type type, int64_t a, int64_t b, int64_t c,
                                int64_t d);

/* The 2-D view with rows and columns exchanged. */
struct trm_tensor trm_tensor_transpose(struct trm_tensor t);

/* Rows [first, first + count) of dimension 0. */
struct trm_tensor trm_tensor_rows(struct trm_tensor t, int64_t first, int64_t count);

/* Columns [first, first + count) of a 2-D view. */
struct trm_tensor trm_tensor_columns(struct trm_tensor t, int64_t first, int64_t count);

int64_t trm_tensor_elements(struct trm_tensor t);
int trm_tensor_is_contiguous(struct trm_tensor t);

#endif
