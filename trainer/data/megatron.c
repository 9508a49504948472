/*
 * Megatron-LM's indexed datasets (megatron/core/datasets/indexed_dataset.py). The .idx:
 *
 *     byte  0  "MMIDIDX\0\0"
 *     byte  9  uint64 version, 1
 *     byte 17  uint8 type code of the tokens
 *     byte 18  uint64 S, sequences
 *     byte 26  uint64 D, entries of the document table
 *     byte 34  int32 length[S], tokens; int64 pointer[S], bytes into the .bin;
 *              int64 document[D]: the sequence each document starts at, and S as the last entry
 *
 * Every writer puts the sequences into the .bin one after the other, which the index is held to: so
 * the .bin is one run of tokens.
 */
#include <inttypes.h>
#include <stddef.h>

#include "trainer/data/formats.h"

/* Sequences that are checked one by one from each end: an index of thousands of millions, read by
 * every rank from one file system, must not hold up the start. */
#define CHECKED_SEQUENCES (INT64_C(1) << 23)

struct index_file {
    const char *path;
    int64_t sequences, documents;
    const unsigned char *lengths, *pointers, *document_table;
};

static enum trm_status check_type(const struct index_file *index, int code, struct trm_error *err)
{
    switch (code) {
    case TRM_TOKEN_UINT8:
    case TRM_TOKEN_INT8:
    case TRM_TOKEN_INT16:
    case TRM_TOKEN_INT32:
    case TRM_TOKEN_INT64:
    case TRM_TOKEN_UINT16:
        return TRM_OK;
    case 6:
    case 7:
        return trm_error_set(
            err, TRM_ERR_INPUT,
            "token index \"%s\" has type code %d at byte 17, floating-point numbers, "
            "which are no tokens; write it again with an integer type",
            index->path, code);
    default:
        return trm_error_set(err, TRM_ERR_INPUT,
                             "token index \"%s\" has the unknown type code %d at byte 17 (known: 1 "
                             "uint8, 2 int8, 3 int16, 4 int32, 5 int64, 8 uint16); write it again",
                             index->path, code);
    }
}

static enum trm_status parse_header(const struct trm_mapping *mapping, struct index_file *index,
                                    enum trm_token_type *type, struct trm_error *err)
{
    const unsigned char *data = mapping->data;
    if (mapping->bytes < MEGATRON_HEADER_BYTES)
        return trm_error_set(err, TRM_ERR_INPUT,
                             "token index \"%s\" ends at byte %" PRId64 ", inside its header of %d "
                             "bytes; copy it again",
                             index->path, mapping->bytes, MEGATRON_HEADER_BYTES);
    if (memcmp(data, MEGATRON_MAGIC, MEGATRON_MAGIC_BYTES) != 0)
        return trm_error_set(
            err, TRM_ERR_INPUT,
            "token index \"%s\" does not begin with Megatron's magic \"MMIDIDX\" at "
            "byte 0; write it again, or move it away if the .bin is no Megatron file",
            index->path);
    int64_t version = trm_load_int64(data + 9);
    if (version != 1)
        return trm_error_set(err, TRM_ERR_INPUT,
                             "token index \"%s\" has version %" PRIu64
                             " at byte 9, and only version "
                             "1 is known; write it again with a current Megatron-LM",
                             index->path, (uint64_t)version);
    if (check_type(index, data[17], err) != TRM_OK)
        return TRM_ERR_INPUT;
    *type = (enum trm_token_type)data[17];
    index->sequences = trm_load_int64(data + 18);
    index->documents = trm_load_int64(data + 26);
    if (index->sequences == 0)
        return trm_error_set(
            err, TRM_ERR_INPUT,
            "token index \"%s\" holds 0 sequences (byte 18); write it again from an "
            "input that has text",
            index->path);
    return TRM_OK;
}

/* The three tables fill the file to its last byte. */
static enum trm_status find_tables(const struct trm_mapping *mapping, struct index_file *index,
                                   struct trm_error *err)
{
    /* Counts over the file's size cannot be right, and below it nothing here overflows. */
    uint64_t limit = (uint64_t)mapping->bytes;
    uint64_t sequences = (uint64_t)index->sequences, documents = (uint64_t)index->documents;
    uint64_t bytes = UINT64_MAX;
    if (sequences <= limit && documents <= limit)
        bytes = MEGATRON_HEADER_BYTES + 12 * sequences + 8 * documents;
    if (bytes > limit)
        return trm_error_set(err, TRM_ERR_INPUT,
                             "token index \"%s\" ends at byte %" PRId64
                             ", too early for the %" PRIu64 " sequences and %" PRIu64
                             " document entries that its header promises "
                             "(byte 18); copy it again",
                             index->path, mapping->bytes, sequences, documents);
    if (bytes < limit)
        return trm_error_set(err, TRM_ERR_INPUT,
                             "token index \"%s\" has %" PRId64 " bytes, but its %" PRIu64
                             " sequences and %" PRIu64 " document entries end at byte %" PRIu64
                             "; write it again, without multimodal modes",
                             index->path, mapping->bytes, sequences, documents, bytes);
    index->lengths = mapping->data + MEGATRON_HEADER_BYTES;
    index->pointers = index->lengths + 4 * sequences;
    index->document_table = index->pointers + 8 * sequences;
    return TRM_OK;
}

/* Sequence i has a length and starts where the one before it ends. */
static enum trm_status check_sequence(const struct index_file *index, int64_t i, int token_bytes,
                                      struct trm_error *err)
{
    int32_t length = trm_load_int32(index->lengths + 4 * i);
    if (length < 0)
        return trm_error_set(err, TRM_ERR_INPUT,
                             "token index \"%s\" gives sequence %" PRId64 " the length %" PRId32
                             " (byte %" PRId64 "); write it again",
                             index->path, i, length, MEGATRON_HEADER_BYTES + 4 * i);
    int64_t expected = 0;
    if (i > 0)
        expected = (int64_t)((uint64_t)trm_load_int64(index->pointers + 8 * (i - 1)) +
                             (uint64_t)trm_load_int32(index->lengths + 4 * (i - 1)) *
                                 (uint64_t)token_bytes);
    int64_t pointer = trm_load_int64(index->pointers + 8 * i);
    if (pointer != expected)
        return trm_error_set(
            err, TRM_ERR_INPUT,
            "token index \"%s\" places sequence %" PRId64 " at byte %" PRId64 " of the .bin (byte "
            "%" PRId64 "), but the sequences before it end at byte %" PRId64 "; write it again",
            index->path, i, pointer, MEGATRON_HEADER_BYTES + 4 * index->sequences + 8 * i,
            expected);
    return TRM_OK;
}

static enum trm_status check_tables(const struct index_file *index, const struct trm_tokens *tokens,
                                    struct trm_error *err)
{
    int token_bytes = trm_token_bytes(tokens->type);
    for (int64_t i = 0; i < index->sequences; i++) {
        if (i == CHECKED_SEQUENCES && index->sequences > 2 * CHECKED_SEQUENCES)
            i = index->sequences - CHECKED_SEQUENCES;
        if (check_sequence(index, i, token_bytes, err) != TRM_OK)
            return TRM_ERR_INPUT;
    }
    int64_t last = index->sequences - 1;
    uint64_t end = (uint64_t)trm_load_int64(index->pointers + 8 * last) +
                   (uint64_t)trm_load_int32(index->lengths + 4 * last) * (uint64_t)token_bytes;
    if (end != (uint64_t)tokens->mapping.bytes)
        return trm_error_set(err, TRM_ERR_INPUT,
                             "token file \"%s\" has %" PRId64
                             " bytes, but the lengths in \"%s\" add "
                             "up to %" PRIu64 " bytes; copy both files again",
                             tokens->path, tokens->mapping.bytes, index->path, end);
    int64_t document_end =
        index->documents ? trm_load_int64(index->document_table + 8 * (index->documents - 1)) : 0;
    if (document_end != index->sequences)
        return trm_error_set(err, TRM_ERR_INPUT,
                             "token index \"%s\" has documents that end at sequence %" PRId64
                             " of %" PRId64 " (table of documents, byte %" PRId64
                             "); write it again",
                             index->path, document_end, index->sequences,
                             MEGATRON_HEADER_BYTES + 12 * index->sequences);
    return TRM_OK;
}

enum trm_status trm_megatron_parse(const char *index_path, struct trm_tokens *tokens,
                                   struct trm_error *err)
{
    struct trm_mapping mapping = {0};
    struct index_file index = {.path = index_path};
    enum trm_status status = trm_mapping_open(index_path, &mapping, err);
    if (status == TRM_OK)
        status = parse_header(&mapping, &index, &tokens->type, err);
    if (status == TRM_OK)
        status = find_tables(&mapping, &index, err);
    if (status == TRM_OK)
        status = check_tables(&index, tokens, err);
    if (status == TRM_OK) {
        tokens->format = TRM_TOKENS_MEGATRON;
        tokens->count = tokens->mapping.bytes / trm_token_bytes(tokens->type);
        tokens->data_offset = 0;
        tokens->sequences = index.sequences;
        tokens->documents = index.documents - 1;
    }
    trm_mapping_close(&mapping);
    return status;
}
