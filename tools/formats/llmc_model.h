/*
 * A llm.c model file, such as gpt2_124M.bin: 256 int32 (magic, version, maximal length, vocabulary,
 * layers, heads, channels, padded vocabulary), then all parameters. Version 3 is float32, version 5
 * bfloat16. https://github.com/karpathy/llm.c, train_gpt2.py: write_model.
 */
#ifndef TRM_TOOLS_FORMATS_LLMC_MODEL_H
#define TRM_TOOLS_FORMATS_LLMC_MODEL_H

#include "tools/formats/foreign.h"

/* TRM_ERR_INPUT for another version, sizes that contradict each other or the file. */
enum trm_status trm_llmc_model_open(const char *path, struct trm_foreign *out,
                                    struct trm_error *err);

#endif
