#include "trainer/data/tokens.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "trainer/data/formats.h"

#define CHECK_CHUNK 4096 /* tokens */

static bool is_regular(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

static bool ends_in(const char *path, const char *suffix)
{
    size_t length = strlen(path), suffix_length = strlen(suffix);
    return length > suffix_length && strcmp(path + length - suffix_length, suffix) == 0;
}

/* Which file holds the tokens, and its index: empty when there is none. */
static enum trm_status find_files(const char *path, char token_path[TRM_PATH_BYTES],
                                  char index_path[TRM_PATH_BYTES], struct trm_error *err)
{
    int prefix = (int)strlen(path);
    bool is_index = ends_in(path, ".idx");
    bool is_file = !is_index && is_regular(path);
    if (is_index || ends_in(path, ".bin"))
        prefix -= 4;
    if (trm_file_path(token_path, err, "%.*s.bin", prefix, path) != TRM_OK ||
        trm_file_path(index_path, err, "%.*s.idx", prefix, path) != TRM_OK)
        return TRM_ERR_INPUT;
    bool has_index = is_regular(index_path);
    if (is_index || (has_index && (ends_in(path, ".bin") || !is_file)))
        return TRM_OK;
    index_path[0] = '\0';
    return trm_file_path(token_path, err, "%s", path);
}

enum trm_status trm_tokens_open(const char *path, int raw_token_bytes, struct trm_tokens *tokens,
                                struct trm_error *err)
{
    TRM_ASSERT(raw_token_bytes == 2 || raw_token_bytes == 4);
    struct trm_tokens opened = {0};
    char index_path[TRM_PATH_BYTES];
    enum trm_status status = find_files(path, opened.path, index_path, err);
    if (status != TRM_OK)
        return status;
    status = trm_mapping_open(opened.path, &opened.mapping, err);
    if (status != TRM_OK)
        return status;
    if (index_path[0])
        status = trm_megatron_parse(index_path, &opened, err);
    else if (trm_llmc_matches(&opened.mapping))
        status = trm_llmc_parse(&opened, err);
    else
        status = trm_raw_parse(raw_token_bytes, &opened, err);
    if (status != TRM_OK) {
        trm_mapping_close(&opened.mapping);
        return status;
    }
    *tokens = opened;
    return TRM_OK;
}

void trm_tokens_close(struct trm_tokens *tokens)
{
    trm_mapping_close(&tokens->mapping);
}

/* Converts a run of one type; returns the index of the first token out of range, or -1. As unsigned
 * numbers the negative ones are the largest. Which token it is is looked for only after the loop
 * without branches has found that there is one. */
#define DEFINE_CONVERT(name, type)                                                              \
    static int64_t convert_##name(const unsigned char *data, int64_t count, int64_t vocab_size, \
                                  int32_t *out, int64_t *value)                                 \
    {                                                                                           \
        int bad = 0;                                                                            \
        for (int64_t i = 0; i < count; i++) {                                                   \
            type token;                                                                         \
            memcpy(&token, data + i * (int64_t)sizeof token, sizeof token);                     \
            bad |= (uint64_t)(int64_t)token >= (uint64_t)vocab_size;                            \
            out[i] = (int32_t)token;                                                            \
        }                                                                                       \
        for (int64_t i = 0; bad && i < count; i++) {                                            \
            type token;                                                                         \
            memcpy(&token, data + i * (int64_t)sizeof token, sizeof token);                     \
            *value = (int64_t)token;                                                            \
            if ((uint64_t)*value >= (uint64_t)vocab_size)                                       \
                return i;                                                                       \
        }                                                                                       \
        return -1;                                                                              \
    }

DEFINE_CONVERT(uint8, uint8_t)
DEFINE_CONVERT(int8, int8_t)
DEFINE_CONVERT(int16, int16_t)
DEFINE_CONVERT(int32, int32_t)
DEFINE_CONVERT(int64, int64_t)
DEFINE_CONVERT(uint16, uint16_t)
DEFINE_CONVERT(uint32, uint32_t)

static int64_t convert(enum trm_token_type type, const unsigned char *data, int64_t count,
                       int64_t vocab_size, int32_t *out, int64_t *value)
{
    switch (type) {
    case TRM_TOKEN_UINT8:
        return convert_uint8(data, count, vocab_size, out, value);
    case TRM_TOKEN_INT8:
        return convert_int8(data, count, vocab_size, out, value);
    case TRM_TOKEN_INT16:
        return convert_int16(data, count, vocab_size, out, value);
    case TRM_TOKEN_INT32:
        return convert_int32(data, count, vocab_size, out, value);
    case TRM_TOKEN_INT64:
        return convert_int64(data, count, vocab_size, out, value);
    case TRM_TOKEN_UINT16:
        return convert_uint16(data, count, vocab_size, out, value);
    case TRM_TOKEN_UINT32:
        return convert_uint32(data, count, vocab_size, out, value);
    }
    TRM_ASSERT(!"a token type");
    return 0;
}

enum trm_status trm_tokens_read(const struct trm_tokens *tokens, int64_t first, int64_t count,
                                int64_t vocab_size, int32_t *out, struct trm_error *err)
{
    TRM_ASSERT(first >= 0 && count >= 0 && count <= tokens->count - first);
    TRM_ASSERT(vocab_size > 0 && vocab_size <= INT32_MAX);
    int64_t offset = tokens->data_offset + first * trm_token_bytes(tokens->type);
    int64_t value = 0;
    int64_t bad =
        convert(tokens->type, tokens->mapping.data + offset, count, vocab_size, out, &value);
    if (bad < 0)
        return TRM_OK;
    const char *advice = "";
    if (tokens->format == TRM_TOKENS_RAW)
        advice = ", or set raw_token_type if its tokens are no ";
    return trm_error_set(
        err, TRM_ERR_INPUT,
        "token %" PRId64 " at index %" PRId64 " of \"%s\" (byte %" PRId64
        ") is outside the vocabulary of %" PRId64 "; set vocab_size to its tokenizer's%s%s",
        value, first + bad, tokens->path, offset + bad * trm_token_bytes(tokens->type), vocab_size,
        advice, *advice ? trm_token_type_name(tokens->type) : "");
}

enum trm_status trm_tokens_check(const struct trm_tokens *tokens, int64_t first, int64_t count,
                                 int64_t vocab_size, struct trm_error *err)
{
    int32_t scratch[CHECK_CHUNK];
    int64_t end = count < tokens->count - first ? first + count : tokens->count;
    for (int64_t at = first; at < end; at += CHECK_CHUNK) {
        int64_t chunk = end - at < CHECK_CHUNK ? end - at : CHECK_CHUNK;
        enum trm_status status = trm_tokens_read(tokens, at, chunk, vocab_size, scratch, err);
        if (status != TRM_OK)
            return status;
    }
    return TRM_OK;
}

static const struct {
    enum trm_token_type type;
    int bytes;
    const char *name;
} types[] = {
    {TRM_TOKEN_UINT8, 1, "uint8"},   {TRM_TOKEN_INT8, 1, "int8"},   {TRM_TOKEN_INT16, 2, "int16"},
    {TRM_TOKEN_INT32, 4, "int32"},   {TRM_TOKEN_INT64, 8, "int64"}, {TRM_TOKEN_UINT16, 2, "uint16"},
    {TRM_TOKEN_UINT32, 4, "uint32"},
};

static int type_row(enum trm_token_type type)
{
    int row = 0;
    while (types[row].type != type) {
        row++;
        TRM_ASSERT(row < (int)(sizeof types / sizeof *types));
    }
    return row;
}

int trm_token_bytes(enum trm_token_type type)
{
    return types[type_row(type)].bytes;
}

const char *trm_token_type_name(enum trm_token_type type)
{
    return types[type_row(type)].name;
}

const char *trm_tokens_format_name(enum trm_tokens_format format)
{
    switch (format) {
    case TRM_TOKENS_LLMC:
        return "llm.c";
    case TRM_TOKENS_MEGATRON:
        return "megatron";
    case TRM_TOKENS_RAW:
        break;
    }
    return "raw";
}
