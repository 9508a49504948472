/*
 * A Hugging Face GPT-2 directory: config.json and model.safetensors, as transformers'
 * GPT2LMHeadModel writes and reads them.
 *
 * Names with and without the prefix "transformer." are read; float32, float16 and bfloat16. What
 * would compute something else here (another activation, an untied head, scaling by layer) is
 * refused, as is a tensor that a GPT-2 has not got; causal masks ("attn.bias") are passed over.
 */
#ifndef TRM_TOOLS_FORMATS_HUGGINGFACE_H
#define TRM_TOOLS_FORMATS_HUGGINGFACE_H

#include "tools/formats/foreign.h"

#define TRM_HUGGINGFACE_CONFIG  "config.json"
#define TRM_HUGGINGFACE_TENSORS "model.safetensors"
#define TRM_HUGGINGFACE_PREFIX  "transformer."

/* TRM_ERR_INPUT naming the file, and the key or tensor. */
enum trm_status trm_huggingface_open(const char *directory, struct trm_foreign *out,
                                     struct trm_error *err);

/* The sizes in a config.json; `name` is for messages. */
enum trm_status trm_huggingface_sizes(const char *text, size_t bytes, const char *name,
                                      struct trm_gpt2_sizes *sizes, struct trm_error *err);

/* The config.json of a model, returned owned; NULL when out of memory. */
char *trm_huggingface_config(const struct trm_config *config);

#endif
