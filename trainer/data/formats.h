/* The parsers behind trm_tokens_open. Each fills format, type, count and data_offset from a mapping
 * that tokens.c owns, or refuses the file with TRM_ERR_INPUT. */
#ifndef TRM_TRAINER_DATA_FORMATS_H
#define TRM_TRAINER_DATA_FORMATS_H

#include <stdbool.h>
#include <string.h>

#include "trainer/data/tokens.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "token files are read as they lie on disk");

/* True when the file begins with the magic number of an llm.c token file. */
bool trm_llmc_matches(const struct trm_mapping *mapping);
enum trm_status trm_llmc_parse(struct trm_tokens *tokens, struct trm_error *err);

/* `tokens` has the mapped .bin; `index_path` is the .idx, which is mapped for the call. */
enum trm_status trm_megatron_parse(const char *index_path, struct trm_tokens *tokens,
                                   struct trm_error *err);

enum trm_status trm_raw_parse(int token_bytes, struct trm_tokens *tokens, struct trm_error *err);

#define LLMC_HEADER_BYTES   1024
#define LLMC_MAGIC_UINT16   20240520
#define LLMC_VERSION_UINT16 1
#define LLMC_MAGIC_UINT32   20240801
#define LLMC_VERSION_UINT32 7

/* Nine bytes: the literal's own NUL is the last. */
#define MEGATRON_MAGIC       "MMIDIDX\0"
#define MEGATRON_MAGIC_BYTES 9
#define MEGATRON_HEADER_BYTES \
    34 /* magic, uint64 version, uint8 type, uint64 sequences, documents */

static inline int32_t trm_load_int32(const unsigned char *from)
{
    int32_t value;
    memcpy(&value, from, sizeof value);
    return value;
}

static inline int64_t trm_load_int64(const unsigned char *from)
{
    int64_t value;
    memcpy(&value, from, sizeof value);
    return value;
}

#endif
