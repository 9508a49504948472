/*
 * GPT-2's tensors under three names: ours, Hugging Face's, and their place in a llm.c model file.
 *
 * Ours are [out, in] with q, k and v apart. Hugging Face's Conv1D weights are [in, out], with q, k
 * and v side by side along out; llm.c keeps [out, in], q, k and v one below the other, and all
 * layers of a kind together. Static data, pure.
 */
#ifndef TRM_TOOLS_FORMATS_GPT2_NAMES_H
#define TRM_TOOLS_FORMATS_GPT2_NAMES_H

#include <stdbool.h>
#include <stddef.h>

#define TRM_LLMC_GROUPS 16

struct trm_gpt2_name {
    const char *ours;        /* of a layer: behind "layers.N." */
    const char *huggingface; /* of a layer: behind "h.N."; tensors of one name are its parts */
    bool in_layer;
    bool transposed; /* Conv1D weights */
    int part, parts; /* which of `parts` equal runs of output channels */
    int llmc_group;  /* the groups follow each other in the file */
};

/* The row for one of our names, and its layer (-1: of none). NULL when GPT-2 has no such tensor. */
const struct trm_gpt2_name *trm_gpt2_name_find(const char *ours, int *layer);

/* "h.3.attn.c_attn.weight"; returns text. */
char *trm_gpt2_name_huggingface(const struct trm_gpt2_name *name, int layer, char *text,
                                size_t text_bytes);

#endif
