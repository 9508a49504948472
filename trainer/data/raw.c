/* Raw tokens: uint16 or uint32 from the first byte on (nanoGPT's files). Anything is valid as such,
 * so what is plainly something else is refused by name. */
#include <ctype.h>
#include <inttypes.h>
#include <stddef.h>

#include "trainer/data/formats.h"

#define PREPARE_IT "turn its text into tokens with \"trireme data prepare\""

/* First bytes of files that people name by mistake. */
static const struct {
    const char *magic;
    size_t bytes;
    const char *what, *advice;
} strangers[] = {
    {"\x1f\x8b", 2, "gzip-compressed", "unpack it with gunzip"},
    {"\x28\xb5\x2f\xfd", 4, "zstd-compressed", "unpack it with zstd -d"},
    {"PK\x03\x04", 4, "a zip archive", "unpack it with unzip"},
    {"\x93NUMPY", 6, "a NumPy array", "write its numbers alone with ndarray.tofile"},
    {"PAR1", 4, "a Parquet file", PREPARE_IT},
    {"ARROW1", 6, "an Arrow file", PREPARE_IT},
    {"\x89HDF\r\n", 6, "an HDF5 file", PREPARE_IT},
    {"\xc6\xd7\x34\x01", 4, "an llm.c model", "name a file of tokens"},
    {"\xc8\xd7\x34\x01", 4, "an llm.c tokenizer", "name a file of tokens"},
    {"\x8a\xd8\x34\x01", 4, "an llm.c evaluation set", "name a file of tokens"},
};

/* 64 bytes or more of nothing but ASCII text: as tokens, numbers that no tokenizer puts in a row.
 */
static bool looks_like_text(const struct trm_mapping *mapping)
{
    int64_t bytes = mapping->bytes < 4096 ? mapping->bytes : 4096;
    if (bytes < 64)
        return false;
    for (int64_t i = 0; i < bytes; i++)
        if (mapping->data[i] >= 0x80 || !(isprint(mapping->data[i]) || isspace(mapping->data[i])))
            return false;
    return true;
}

enum trm_status trm_raw_parse(int token_bytes, struct trm_tokens *tokens, struct trm_error *err)
{
    const struct trm_mapping *mapping = &tokens->mapping;
    for (size_t i = 0; i < sizeof strangers / sizeof *strangers; i++)
        if (mapping->bytes >= 64 &&
            memcmp(mapping->data, strangers[i].magic, strangers[i].bytes) == 0)
            return trm_error_set(err, TRM_ERR_INPUT,
                                 "token file \"%s\" is %s by its first bytes; %s", tokens->path,
                                 strangers[i].what, strangers[i].advice);
    if (looks_like_text(mapping))
        return trm_error_set(err, TRM_ERR_INPUT,
                             "token file \"%s\" is plain text from its first byte on; " PREPARE_IT,
                             tokens->path);
    if (mapping->bytes % token_bytes != 0)
        return trm_error_set(
            err, TRM_ERR_INPUT,
            "token file \"%s\" has %" PRId64 " bytes, not a multiple of %d for raw "
            "uint%d tokens: the last token, at byte %" PRId64 ", is cut short; copy "
            "the file again or set raw_token_type",
            tokens->path, mapping->bytes, token_bytes, 8 * token_bytes,
            mapping->bytes / token_bytes * token_bytes);
    tokens->format = TRM_TOKENS_RAW;
    tokens->type = token_bytes == 4 ? TRM_TOKEN_UINT32 : TRM_TOKEN_UINT16;
    tokens->count = mapping->bytes / token_bytes;
    tokens->data_offset = 0;
    return TRM_OK;
}
