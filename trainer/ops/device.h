/*
 * A device: where ops run, and the settings they take. One table of ops (ops.h), a workspace that
 * the caller plans and provides, and a sticky error. One thread at a time.
 */
#ifndef TRM_TRAINER_OPS_DEVICE_H
#define TRM_TRAINER_OPS_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "base/type.h"

struct trm_ops;

enum trm_activation { TRM_ACT_NONE, TRM_ACT_GELU /* tanh form, as GPT-2 */ };
enum trm_norm { TRM_NORM_LAYER };

struct trm_attention {
    int batch, seq_length; /* B, T: queries, rows of q are [B * T] */
    int heads, kv_heads;   /* H, G: G divides H */
    int head_size;         /* D */
    int window;            /* keys visible per query, 0: all before it */
    int position_offset;   /* position of the first query among the keys (0 in training) */
    float scale;           /* of q.k before softmax, 1 / sqrt(D) */
};

struct trm_adamw {
    float learning_rate, beta1, beta2, epsilon, weight_decay;
    float bias_correction1, bias_correction2; /* 1 - beta^t */
    float gradient_scale;                     /* 1 / tokens, times the clip factor */
    /* For the CUDA device alone; NULL on others. */
    void *rounded; /* bfloat16 copy of the parameters, written too */
    /* On the device: nothing is updated when it is bad, and its gradient_scale is taken. */
    const struct trm_step_verdict *verdict;
};

/* What a step's numbers are worth, decided on the device before the host has seen them. */
struct trm_step_verdict {
    int32_t bad;          /* not 0: loss or norm is not finite, or the loss above the limit */
    float gradient_scale; /* 1 / tokens, times the clip factor */
};

/* What a verdict is made by. */
struct trm_step_rules {
    double tokens;     /* of the step */
    double loss_limit; /* the largest mean loss that is no spike; infinity: none is */
    double clip_grad;  /* the largest gradient norm; 0: any */
};

/* The largest sizes a model will ask for, to plan the workspace. */
struct trm_ops_limits {
    enum trm_type type;
    int64_t max_rows;               /* N of any matrix */
    int64_t max_columns;            /* widest matrix: 4 C, V, ... */
    int64_t vocabulary;             /* V, for the embedding's gradient; 0 without */
    struct trm_attention attention; /* largest */
};

#define TRM_NORM_BLOCK 1024

/* A digest is the XXH3-64 of each so many bytes, seeded by their number, added modulo 2^64: the
 * same on every device. */
#define TRM_DIGEST_BYTES (1 << 20)

struct trm_device {
    const struct trm_ops *ops;
    void *workspace; /* borrowed; the size that workspace_bytes asked for */
    size_t workspace_bytes;
    void *state;            /* the device's own */
    struct trm_error error; /* sticky: the first failure */
};

/* Devices are made by trm_device_reference (reference/reference.h), trm_device_cpu (cpu/cpu.h) and
 * trm_device_cuda (cuda/cuda.h). */

/* "avx512_core_amx, oneDNN 2.6.3, 2 threads": what decides the bits and the speed. */
void trm_device_describe(const struct trm_device *dev, char *text, size_t text_bytes);

/* Waits for all work; returns the sticky error, if any, and its words. */
enum trm_status trm_device_sync(struct trm_device *dev, struct trm_error *err);

/* Memory of a device that is not the host; see the functions below. */
struct trm_device_memory {
    void *(*allocate)(struct trm_device *dev, size_t bytes);
    void (*release)(struct trm_device *dev, void *memory);
    void (*upload)(struct trm_device *dev, void *to, const void *from, size_t bytes);
    void (*download)(struct trm_device *dev, void *to, const void *from, size_t bytes);
    size_t (*available_bytes)(struct trm_device *dev);
    /* Page-locked memory of the host. */
    void *(*allocate_host)(struct trm_device *dev, size_t bytes);
    void (*release_host)(struct trm_device *dev, void *memory);
    /* Copies beside the ops. */
    void (*fetch_begin)(struct trm_device *dev);
    void (*fetch)(struct trm_device *dev, void *to, const void *from, size_t bytes);
    void (*fetch_wait)(struct trm_device *dev);
};

/* True when tensors lie in the host's memory. */
bool trm_device_is_host(const struct trm_device *dev);

/* Memory that tensors may lie in, aligned to 256 bytes, returned owned; NULL and the sticky error
 * when there is none. trm_device_release takes NULL. */
void *trm_device_allocate(struct trm_device *dev, size_t bytes);
void trm_device_release(struct trm_device *dev, void *memory);

/* Copies between the host's memory and the device's, in order with the ops. `from` of an upload may
 * be changed, and `to` of a download read, after trm_device_sync. */
void trm_device_upload(struct trm_device *dev, void *to, const void *from, size_t bytes);
void trm_device_download(struct trm_device *dev, void *to, const void *from, size_t bytes);

/* Profilers call what the host does from now on by that name, which is static; NULL: by none. */
void trm_device_mark(struct trm_device *dev, const char *name);

/* The sticky error, if any, and its words, without waiting for work. */
enum trm_status trm_device_check(const struct trm_device *dev, struct trm_error *err);

/* Bytes of the device's memory that are free; 0: nobody can tell, or the host's. */
size_t trm_device_available_bytes(struct trm_device *dev);

/* Memory of the host from which and to which a device copies at full speed while the host goes on;
 * returned owned, as above. */
void *trm_device_allocate_host(struct trm_device *dev, size_t bytes);
void trm_device_release_host(struct trm_device *dev, void *memory);

/* Copies to the host beside the ops, for what is read while work goes on: fetches take what the ops
 * before trm_device_fetch_begin left, so long as none that was queued since writes it.
 * trm_device_fetch_wait holds up the host until they are done, and returns the sticky error. `to`
 * is of trm_device_allocate_host. */
void trm_device_fetch_begin(struct trm_device *dev);
void trm_device_fetch(struct trm_device *dev, void *to, const void *from, size_t bytes);
enum trm_status trm_device_fetch_wait(struct trm_device *dev, struct trm_error *err);

#endif
