/*
 * llm.c's token files: 256 int32 (magic, version, number of tokens, zeros), then the tokens.
 * Magic and version tell the type: GPT-2's uint16 and Llama 3's uint32
 * (dev/data/data_common.py of karpathy/llm.c).
 */
#include <inttypes.h>
#include <stddef.h>

#include "trainer/data/formats.h"

bool trm_llmc_matches(const struct trm_mapping *mapping)
{
    if (mapping->bytes < 4)
        return false;
    int32_t magic = trm_load_int32(mapping->data);
    return magic == LLMC_MAGIC_UINT16 || magic == LLMC_MAGIC_UINT32;
}

enum trm_status trm_llmc_parse(struct trm_tokens *tokens, struct trm_error *err)
{
    const struct trm_mapping *mapping = &tokens->mapping;
    if (mapping->bytes < LLMC_HEADER_BYTES)
        return trm_error_set(err, TRM_ERR_INPUT,
                             "token file \"%s\" ends at byte %" PRId64
                             ", inside its llm.c header of "
                             "%d bytes; copy it again",
                             tokens->path, mapping->bytes, LLMC_HEADER_BYTES);
    int32_t magic = trm_load_int32(mapping->data);
    int32_t version = trm_load_int32(mapping->data + 4);
    int32_t count = trm_load_int32(mapping->data + 8);
    bool wide = magic == LLMC_MAGIC_UINT32;
    int32_t expected = wide ? LLMC_VERSION_UINT32 : LLMC_VERSION_UINT16;
    if (version != expected)
        return trm_error_set(err, TRM_ERR_INPUT,
                             "token file \"%s\" has version %" PRId32 " at byte 4, but llm.c files "
                             "with magic %" PRId32 " have version %" PRId32 "; write it again with "
                             "a current llm.c or \"trireme data prepare\"",
                             tokens->path, version, magic, expected);
    if (count <= 0)
        return trm_error_set(err, TRM_ERR_INPUT,
                             "token file \"%s\" has a header that promises %" PRId32
                             " tokens (byte "
                             "8); an llm.c file holds 1 to 2147483647, so write it again",
                             tokens->path, count);
    tokens->format = TRM_TOKENS_LLMC;
    tokens->type = wide ? TRM_TOKEN_UINT32 : TRM_TOKEN_UINT16;
    tokens->count = count;
    tokens->data_offset = LLMC_HEADER_BYTES;
    int64_t bytes = LLMC_HEADER_BYTES + (int64_t)count * trm_token_bytes(tokens->type);
    if (mapping->bytes < bytes)
        return trm_error_set(err, TRM_ERR_INPUT,
                             "token file \"%s\" ends at byte %" PRId64 ", but its header promises "
                             "%" PRId32 " tokens, which is %" PRId64 " bytes; copy it again",
                             tokens->path, mapping->bytes, count, bytes);
    if (mapping->bytes > bytes)
        return trm_error_set(err, TRM_ERR_INPUT,
                             "token file \"%s\" has %" PRId64
                             " bytes, but its header promises %" PRId32
                             " tokens, which end at byte %" PRId64 "; write it again",
                             tokens->path, mapping->bytes, count, bytes);
    return TRM_OK;
}
