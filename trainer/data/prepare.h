/*
 * Text files into tokens, byte by byte: a token is the value of a byte, the vocabulary is 256.
 *
 * Inputs are joined in order, as they are; Megatron's index keeps each as a document. Streams in
 * blocks of 1 MiB. The output appears under its name when it is whole and on disk, and an older one
 * is replaced then; after a failure neither it nor a temporary file is there.
 */
#ifndef TRM_TRAINER_DATA_PREPARE_H
#define TRM_TRAINER_DATA_PREPARE_H

#include "trainer/data/tokens.h"

/* Bytes of input done, of all. Called from the calling thread. */
typedef void (*trm_prepare_progress_fn)(void *context, int64_t done_bytes, int64_t total_bytes);

struct trm_prepare_settings {
    const char *const *inputs;
    int input_count;
    const char *output; /* Megatron: the prefix, or its .bin or .idx */
    enum trm_tokens_format format;
    trm_prepare_progress_fn progress; /* or NULL */
    void *progress_context;
};

struct trm_prepare_result {
    int64_t tokens;
    char token_path[TRM_PATH_BYTES];
    char index_path[TRM_PATH_BYTES]; /* empty but for Megatron */
};

/* TRM_ERR_INPUT for an input that is missing, empty or no regular file, for an output that would be
 * read wrongly, and for more tokens than llm.c's header can count; TRM_ERR_IO when writing fails.
 */
enum trm_status trm_prepare_bytes(const struct trm_prepare_settings *settings,
                                  struct trm_prepare_result *result, struct trm_error *err);

#endif
