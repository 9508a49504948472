/*
 * safetensors files: 8 bytes with the length of a JSON header, the header, the tensors' bytes.
 * https://github.com/huggingface/safetensors#format
 *
 * Reading trusts nothing: lengths, types, shapes and places are held against each other and against
 * the size of the file before they are believed; what is returned lies inside the file and no two
 * tensors share a byte. Every refusal is TRM_ERR_INPUT with one sentence. Memory: the header, about
 * ten times over while it is parsed. Pure but for the two that name a file.
 */
#ifndef TRM_TOOLS_FORMATS_SAFETENSORS_H
#define TRM_TOOLS_FORMATS_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define TRM_SAFETENSORS_MAX_HEADER_BYTES ((size_t)16 << 20)
#define TRM_SAFETENSORS_MAX_DIMS         8
#define TRM_SAFETENSORS_NAME_BYTES       256

enum trm_safetensors_type {
    TRM_SAFETENSORS_F32,
    TRM_SAFETENSORS_F16,
    TRM_SAFETENSORS_BF16,
    TRM_SAFETENSORS_OTHER /* a known size, of no use here: integers, float64, float8 */
};

struct trm_safetensors_entry {
    char name[TRM_SAFETENSORS_NAME_BYTES];
    enum trm_safetensors_type type;
    int dims;
    int64_t shape[TRM_SAFETENSORS_MAX_DIMS];
    int64_t offset, bytes; /* in the file */
};

struct trm_safetensors {
    int64_t count;
    struct trm_safetensors_entry *entries; /* owned; in the order of their names */
};

/* Reads the header out of the first `bytes` of a file of `file_bytes`, which lie at `data`: the
 * whole file, or at least the header. `name` is for messages. *out is to be destroyed by the
 * caller, and is written on success alone. */
enum trm_status trm_safetensors_open(const void *data, size_t bytes, int64_t file_bytes,
                                     const char *name, struct trm_safetensors *out,
                                     struct trm_error *err);
void trm_safetensors_destroy(struct trm_safetensors *tensors); /* what it owns, not the struct */

/* The same out of an open file. */
enum trm_status trm_safetensors_open_file(int fd, const char *path, struct trm_safetensors *out,
                                          struct trm_error *err);

/* NULL when there is none. */
const struct trm_safetensors_entry *trm_safetensors_find(const struct trm_safetensors *tensors,
                                                         const char *name);

/* The start of a file of float32 tensors (name and shape set) that follow each other as given:
 * length, header, and padding to a multiple of 64 bytes. Sets type, offset and bytes of each.
 * *header is returned owned. */
enum trm_status trm_safetensors_plan(struct trm_safetensors_entry *entries, int count,
                                     char **header, size_t *header_bytes, struct trm_error *err);

#endif
