/*
 * ★ trm_foreign: a GPT-2 in somebody else's file, seen as our tensors.
 *
 * huggingface.h and llmc_model.h open one: its sizes become a configuration, and for each tensor
 * that the model declares they say where its elements lie. Elements are read and converted a
 * rectangle at a time, exactly: every float16 and bfloat16 is a float32. Memory: 256 KiB while
 * reading. One thread. A file that changes meanwhile gives an error or its new bytes.
 */
#ifndef TRM_TOOLS_FORMATS_FOREIGN_H
#define TRM_TOOLS_FORMATS_FOREIGN_H

#include "base/file.h"
#include "checkpoint/catalog.h"
#include "trainer/config/config.h"
#include "trainer/plan/layout.h"

enum trm_foreign_type { TRM_FOREIGN_F32, TRM_FOREIGN_F16, TRM_FOREIGN_BF16 };

/* Element (row, column) of one of our tensors is element row * line + column of the file from
 * `offset` on, or column * line + row when transposed. */
struct trm_foreign_tensor {
    int64_t offset; /* bytes */
    int64_t line;   /* elements */
    bool transposed;
    enum trm_foreign_type type;
};

struct trm_foreign {
    char path[TRM_PATH_BYTES]; /* of the file with the tensors */
    int fd;
    struct trm_config *config;          /* owned: the model's keys set, checked */
    int tensor_count;                   /* as trm_model_declare says for `config` */
    struct trm_tensor_spec *specs;      /* owned */
    struct trm_foreign_tensor *tensors; /* owned; the opener fills them */
};

/* What decides a GPT-2's tensors. */
struct trm_gpt2_sizes {
    int64_t layers, hidden, ffn, heads, positions, vocabulary;
    double epsilon;
};

/* Opens `path`, checks the sizes as a configuration's are (TRM_ERR_INPUT) and declares the tensors.
 * On failure nothing is left to close. */
enum trm_status trm_foreign_begin(const char *path, const struct trm_gpt2_sizes *sizes,
                                  struct trm_foreign *out, struct trm_error *err);
void trm_foreign_close(struct trm_foreign *foreign);

/* The "model:" section of a configuration with these sizes, and no other key: an imported model
 * says nothing about seeds, data or schedules. Returned owned (free); NULL when out of memory. */
char *trm_foreign_yaml(const struct trm_config *config);

/* The reverse, for a checkpoint's configuration: other keys may be there or not. `name` is for
 * messages. *out is returned owned, checked. */
enum trm_status trm_foreign_config(const char *yaml, const char *name, struct trm_config **out,
                                   struct trm_error *err);

/* Elements [rect] of tensor `number`, row by row, into `out`. */
enum trm_status trm_foreign_read(const struct trm_foreign *foreign, int number,
                                 struct trm_rect rect, float *out, struct trm_error *err);

/* Bytes of an element. */
int64_t trm_foreign_type_bytes(enum trm_foreign_type type);

/* count elements; `from` may be unaligned. */
void trm_foreign_convert(const void *from, enum trm_foreign_type type, int64_t count, float *out);

#endif
