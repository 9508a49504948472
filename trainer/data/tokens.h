/*
 * One file of tokens, whatever its format.
 *
 * Formats: llm.c (a header of 256 int32), Megatron-LM (a .bin beside a .idx; named by either or by
 * their common prefix; its sequences are read one after the other as one run of tokens), and raw
 * integers. Detected in this order: a .idx next to it is Megatron, a magic number is llm.c,
 * everything else is raw. All numbers are little-endian, as all these formats are in practice.
 *
 * The file is mapped, so memory is the page cache's. Not changed after open: threads may share it.
 */
#ifndef TRM_TRAINER_DATA_TOKENS_H
#define TRM_TRAINER_DATA_TOKENS_H

#include <stdint.h>

#include "base/file.h"
#include "base/status.h"
#include "trainer/data/mapping.h"

enum trm_tokens_format { TRM_TOKENS_RAW, TRM_TOKENS_LLMC, TRM_TOKENS_MEGATRON };

/* The numbers are Megatron's codes, but for uint32, which it lacks. */
enum trm_token_type {
    TRM_TOKEN_UINT8 = 1,
    TRM_TOKEN_INT8 = 2,
    TRM_TOKEN_INT16 = 3,
    TRM_TOKEN_INT32 = 4,
    TRM_TOKEN_INT64 = 5,
    TRM_TOKEN_UINT16 = 8,
    TRM_TOKEN_UINT32 = 100
};

struct trm_tokens {
    enum trm_tokens_format format;
    enum trm_token_type type;
    int64_t count;                /* tokens, at least 1 */
    int64_t data_offset;          /* byte of the file where the first token lies */
    int64_t sequences, documents; /* Megatron's; 0 elsewhere */
    struct trm_mapping mapping;
    char path[TRM_PATH_BYTES]; /* of the file that holds the tokens */
};

/* `raw_token_bytes` is 2 or 4, for files without a header. TRM_ERR_INPUT for whatever is wrong with
 * the file, naming it, the byte and what to do. The caller closes. */
enum trm_status trm_tokens_open(const char *path, int raw_token_bytes, struct trm_tokens *tokens,
                                struct trm_error *err);

/* Idempotent. */
void trm_tokens_close(struct trm_tokens *tokens);

/* out[count] = tokens [first, first + count), which must lie within the file. TRM_ERR_INPUT naming
 * index, byte offset and value of the first token that is negative or not below `vocab_size`. */
enum trm_status trm_tokens_read(const struct trm_tokens *tokens, int64_t first, int64_t count,
                                int64_t vocab_size, int32_t *out, struct trm_error *err);

/* The same check without the copy; a range that reaches past the end is cut. */
enum trm_status trm_tokens_check(const struct trm_tokens *tokens, int64_t first, int64_t count,
                                 int64_t vocab_size, struct trm_error *err);

int trm_token_bytes(enum trm_token_type type);
const char *trm_token_type_name(enum trm_token_type type);         /* "uint16"; static */
const char *trm_tokens_format_name(enum trm_tokens_format format); /* "llm.c"; static */

#endif
