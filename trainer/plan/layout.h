/*
 * Where everything lies: the one description that initialisation, memory plan, gradient exchange,
 * ZeRO, checkpoints and export read.
 *
 * The model declares its tensors; the layout gives each a place in one flat vector per
 * tensor-parallel rank. Tensors start at multiples of TRM_LAYOUT_ALIGNMENT elements (but those
 * fused to the one before, which follow directly: q, k, v are three tensors of one matrix). Buckets
 * are runs of whole layers, padded so that each can be cut into data_size equal shards of a
 * multiple of TRM_LAYOUT_ALIGNMENT elements; data rank d owns shard d of every bucket (ZeRO-1). The
 * same flat vector serves parameters, gradients and (by owned shards) optimizer state. Padding
 * stays zero.
 *
 * Flat offsets depend on data_size and on the bucket size, the place of an element inside its
 * tensor does not: so results depend on neither. Pure; all ranks compute the same.
 */
#ifndef TRM_TRAINER_PLAN_LAYOUT_H
#define TRM_TRAINER_PLAN_LAYOUT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

#define TRM_LAYOUT_ALIGNMENT  1024 /* elements; also the block of the gradient norm */
#define TRM_TENSOR_NAME_BYTES 96

enum trm_split {
    TRM_SPLIT_NONE,   /* replicated on every tensor-parallel rank */
    TRM_SPLIT_ROWS,   /* dimension 0 is cut (column-parallel weights, vocabulary) */
    TRM_SPLIT_COLUMNS /* dimension 1 is cut (row-parallel weights) */
};

enum trm_init { TRM_INIT_ZERO, TRM_INIT_ONE, TRM_INIT_NORMAL };

/* A tensor as the model declares it: global, unpadded. One-dimensional tensors have columns = 1. */
struct trm_tensor_spec {
    char name[TRM_TENSOR_NAME_BYTES]; /* as in checkpoints: "layers.0.attention.q.weight" */
    int dims;                         /* 1 or 2 */
    int64_t rows, columns;
    int64_t padded_rows; /* >= rows; the vocabulary's multiple; = rows elsewhere */
    enum trm_split split;
    bool fused;       /* follows the tensor before without a gap */
    bool decay;       /* weight decay applies */
    int bucket_group; /* layer: buckets are runs of whole groups; groups ascend */
    bool own_bucket;  /* its group shares a bucket with no other (the tied embedding) */
    enum trm_init init;
    double init_std;
};

/* The same tensor on this tensor-parallel rank. */
struct trm_layout_tensor {
    struct trm_tensor_spec spec;
    int64_t offset;                  /* elements, in the flat vector */
    int64_t rows, columns;           /* local, padding included */
    int64_t first_row, first_column; /* place of the local slice in the global matrix */
    int64_t valid_rows;              /* local rows that are not padding */
    int64_t elements;                /* rows * columns */
    int bucket;
    bool counted; /* this rank counts it in norms and saves it: split, or tensor rank 0 */
};

struct trm_layout_bucket {
    int64_t offset, elements; /* of the flat vector, padding included: data_size * shard_elements */
    int64_t shard_elements;
    int64_t owned_offset; /* where this bucket's shard starts in the owned (optimizer) vector */
    int first_tensor, tensor_count;
};

struct trm_layout {
    int tensor_size, tensor_rank, data_size;
    int tensor_count, bucket_count;
    struct trm_layout_tensor *tensors;
    struct trm_layout_bucket *buckets;
    int64_t elements;        /* of the flat vector */
    int64_t owned_elements;  /* of one data rank's shards, equal for all */
    int64_t parameter_count; /* global, unpadded, each tensor once */
};

struct trm_layout_shape {
    int tensor_size, tensor_rank, data_size;
    int64_t bucket_elements; /* a bucket closes once it holds as many; 0: one bucket per group */
};

/* TRM_ERR_CONFIG when a split dimension does not divide. *out is returned owned. */
enum trm_status trm_layout_create(const struct trm_tensor_spec *specs, int count,
                                  const struct trm_layout_shape *shape, struct trm_layout **out,
                                  struct trm_error *err);
void trm_layout_destroy(struct trm_layout *layout);

/* Index of a tensor by name, -1 if there is none. */
int trm_layout_find(const struct trm_layout *layout, const char *name);

/* A run of flat elements inside one tensor: what an owned shard consists of. */
struct trm_layout_run {
    int tensor;
    int64_t begin, end;   /* element range inside the local tensor */
    int64_t flat_offset;  /* of `begin` in the flat vector */
    int64_t owned_offset; /* of `begin` in the owned vector of the data rank */
};

/* The runs of data rank `data_rank`, ascending. Writes at most `max`; returns how many there are.
 */
int trm_layout_owned_runs(const struct trm_layout *layout, int data_rank,
                          struct trm_layout_run *runs, int max);

#endif
