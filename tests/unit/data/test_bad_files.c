/* Every way a token file, its index or its weight can be wrong, each with its exact sentence. '@'
 * is the test's directory, in what is given and in what is expected. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

/* "a.bin" as llm.c's; nothing is written when magic is 0. */
struct llmc {
    int32_t magic, version, count;
    size_t bytes; /* of the file, cut or filled with zeros */
};

/* "a.idx"; nothing is written when magic is NULL. Two sequences and two document entries fit. */
struct index {
    const char *magic;
    uint64_t version;
    int code;
    uint64_t sequences, documents;
    int32_t lengths[2];
    int64_t pointers[2];
    int64_t document_end;
    size_t bytes; /* of the file, cut or filled with zeros; 0: as many as it takes */
};

struct bad {
    const char *item;
    const char *sentence;
    const char *content; /* of "a.bin", `content_bytes` long */
    size_t content_bytes;
    size_t zeros; /* bytes of "a.bin" where there is no content */
    struct llmc llmc;
    struct index index;
    int raw_token_bytes;   /* 0: 2 */
    double begin, end;     /* 0, 0: all */
    const char *more_item; /* a second item, or NULL */
};

#define TEXT64 "The quick brown fox jumps over the lazy dog. The quick brown fox"
#define FILLED(magic)                                                                              \
    magic "\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1" \
          "\1\1"                                                                                   \
          "\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1"
#define CONTENT(text) .content = text, .content_bytes = sizeof(text) - 1
#define MAGIC         "MMIDIDX\0"

static const struct bad bad_files[] = {
    {"@/none.bin", "token file \"@/none.bin\": no such file; check the path", .zeros = 0},
    {"@/a.bin/deeper", "token file \"@/a.bin/deeper\": no such file; check the path", .zeros = 20},
    {"@/a.bin", "token file \"@/a.bin\" is empty (0 bytes); copy or write it again", .content = "",
     .content_bytes = 0},
    {"@",
     "token file \"@\" is a directory; name a file in it, or the prefix of a Megatron .bin and "
     ".idx pair",
     .zeros = 0},
    {"/dev/null", "token file \"/dev/null\" is not a regular file; copy its tokens into one",
     .zeros = 0},

    /* raw */
    {"@/a.bin",
     "token file \"@/a.bin\" has 21 bytes, not a multiple of 2 for raw uint16 tokens: the last "
     "token, "
     "at byte 20, is cut short; copy the file again or set raw_token_type",
     .zeros = 21},
    {"@/a.bin",
     "token file \"@/a.bin\" has 22 bytes, not a multiple of 4 for raw uint32 tokens: the last "
     "token, "
     "at byte 20, is cut short; copy the file again or set raw_token_type",
     .zeros = 22, .raw_token_bytes = 4},
    {"@/a.bin",
     "token file \"@/a.bin\" holds 1 tokens, fewer than the 5 of one sample (seq_length + 1); use "
     "a "
     "longer file or a smaller seq_length",
     .zeros = 2},
    {"@/a.bin",
     "token file \"@/a.bin\" holds 4 tokens, fewer than the 5 of one sample (seq_length + 1); use "
     "a "
     "longer file or a smaller seq_length",
     .zeros = 8},
    {"@/a.bin",
     "token file \"@/a.bin\" is plain text from its first byte on; turn its text into tokens with "
     "\"trireme data prepare\"",
     CONTENT(TEXT64)},
    {"@/a.bin",
     "token file \"@/a.bin\" is gzip-compressed by its first bytes; unpack it with gunzip",
     CONTENT(FILLED("\x1f\x8b"))},
    {"@/a.bin",
     "token file \"@/a.bin\" is zstd-compressed by its first bytes; unpack it with zstd -d",
     CONTENT(FILLED("\x28\xb5\x2f\xfd"))},
    {"@/a.bin",
     "token file \"@/a.bin\" is a NumPy array by its first bytes; write its numbers alone with "
     "ndarray.tofile",
     CONTENT(FILLED("\x93NUMPY"))},
    {"@/a.bin",
     "token file \"@/a.bin\" is a Parquet file by its first bytes; turn its text into tokens with "
     "\"trireme data prepare\"",
     CONTENT(FILLED("PAR1"))},
    {"@/a.bin",
     "token file \"@/a.bin\" is an llm.c model by its first bytes; name a file of tokens",
     .llmc = {20240326, 3, 0, 1024}},

    /* tokens */
    {"@/a.bin",
     "token 256 at index 3 of \"@/a.bin\" (byte 6) is outside the vocabulary of 256; set "
     "vocab_size to its tokenizer's, or set raw_token_type if its tokens are no uint16",
     CONTENT("\1\0\1\0\1\0\0\1\1\0\1\0")},
    {"@/a.bin",
     "token 4294967295 at index 1 of \"@/a.bin\" (byte 4) is outside the vocabulary of 256; "
     "set vocab_size to its tokenizer's, or set raw_token_type if its tokens are no uint32",
     CONTENT("\1\0\0\0\xff\xff\xff\xff\1\0\0\0\1\0\0\0\1\0\0\0"), .raw_token_bytes = 4},
    {"@/a.bin",
     "token -2 at index 4 of \"@/a.bin\" (byte 8) is outside the vocabulary of 256; set "
     "vocab_size to its tokenizer's",
     CONTENT("\1\0\1\0\1\0\1\0\xfe\xff"), .index = {MAGIC, 1, 3, 1, 2, {5}, {0}, 1}},

    /* llm.c */
    {"@/a.bin",
     "token file \"@/a.bin\" ends at byte 600, inside its llm.c header of 1024 bytes; copy it "
     "again",
     .llmc = {20240520, 1, 100, 600}},
    {"@/a.bin",
     "token file \"@/a.bin\" ends at byte 1200, but its header promises 100 tokens, which is 1224 "
     "bytes; copy it again",
     .llmc = {20240520, 1, 100, 1200}},
    {"@/a.bin",
     "token file \"@/a.bin\" ends at byte 1224, but its header promises 100 tokens, which is 1424 "
     "bytes; copy it again",
     .llmc = {20240801, 7, 100, 1224}},
    {"@/a.bin",
     "token file \"@/a.bin\" ends at byte 2048, but its header promises 2147483647 tokens, which "
     "is "
     "8589935612 bytes; copy it again",
     .llmc = {20240801, 7, INT32_MAX, 2048}},
    {"@/a.bin",
     "token file \"@/a.bin\" has 1226 bytes, but its header promises 100 tokens, which end at byte "
     "1224; write it again",
     .llmc = {20240520, 1, 100, 1226}},
    {"@/a.bin",
     "token file \"@/a.bin\" has version 2 at byte 4, but llm.c files with magic 20240520 have "
     "version 1; write it again with a current llm.c or \"trireme data prepare\"",
     .llmc = {20240520, 2, 100, 1224}},
    {"@/a.bin",
     "token file \"@/a.bin\" has version 1 at byte 4, but llm.c files with magic 20240801 have "
     "version 7; write it again with a current llm.c or \"trireme data prepare\"",
     .llmc = {20240801, 1, 100, 1424}},
    {"@/a.bin",
     "token file \"@/a.bin\" has a header that promises 0 tokens (byte 8); an llm.c file holds 1 "
     "to "
     "2147483647, so write it again",
     .llmc = {20240520, 1, 0, 1024}},
    {"@/a.bin",
     "token file \"@/a.bin\" has a header that promises -5 tokens (byte 8); an llm.c file holds 1 "
     "to "
     "2147483647, so write it again",
     .llmc = {20240520, 1, -5, 1024}},

    /* Megatron */
    {"@/a.idx", "token file \"@/a.bin\": no such file; check the path",
     .index = {MAGIC, 1, 8, 1, 2, {10}, {0}, 1}},
    {"@/a.idx", "token file \"@/a.idx\": no such file; check the path", .zeros = 20},
    {"@/a", "token file \"@/a\": no such file; check the path", .zeros = 20},
    {"@/a", "token file \"@/a.bin\" is empty (0 bytes); copy or write it again", .content = "",
     .index = {MAGIC, 1, 8, 1, 2, {0}, {0}, 1}},
    {"@/a.bin",
     "token index \"@/a.idx\" ends at byte 33, inside its header of 34 bytes; copy it again",
     .zeros = 20, .index = {MAGIC, 1, 8, 1, 2, {10}, {0}, 1, 33}},
    {"@/a.bin",
     "token index \"@/a.idx\" does not begin with Megatron's magic \"MMIDIDX\" at byte 0; write it "
     "again, or move it away if the .bin is no Megatron file",
     .zeros = 20, .index = {"TNTIDX\0\0", 1, 8, 1, 2, {10}, {0}, 1}},
    {"@/a.bin",
     "token index \"@/a.idx\" has version 2 at byte 9, and only version 1 is known; write it again "
     "with a current Megatron-LM",
     .zeros = 20, .index = {MAGIC, 2, 8, 1, 2, {10}, {0}, 1}},
    {"@/a.bin",
     "token index \"@/a.idx\" has the unknown type code 9 at byte 17 (known: 1 uint8, 2 int8, 3 "
     "int16, 4 int32, 5 int64, 8 uint16); write it again",
     .zeros = 20, .index = {MAGIC, 1, 9, 1, 2, {10}, {0}, 1}},
    {"@/a.bin",
     "token index \"@/a.idx\" has the unknown type code 0 at byte 17 (known: 1 uint8, 2 int8, 3 "
     "int16, 4 int32, 5 int64, 8 uint16); write it again",
     .zeros = 20, .index = {MAGIC, 1, 0, 1, 2, {10}, {0}, 1}},
    {"@/a.bin",
     "token index \"@/a.idx\" has type code 7 at byte 17, floating-point numbers, which are no "
     "tokens; write it again with an integer type",
     .zeros = 20, .index = {MAGIC, 1, 7, 1, 2, {10}, {0}, 1}},
    {"@/a.bin",
     "token index \"@/a.idx\" holds 0 sequences (byte 18); write it again from an input that has "
     "text",
     .zeros = 20, .index = {MAGIC, 1, 8, 0, 1, {0}, {0}, 0, 42}},
    {"@/a.bin",
     "token index \"@/a.idx\" ends at byte 60, too early for the 1 sequences and 2 document "
     "entries "
     "that its header promises (byte 18); copy it again",
     .zeros = 20, .index = {MAGIC, 1, 8, 1, 2, {10}, {0}, 1, 60}},
    {"@/a.bin",
     "token index \"@/a.idx\" ends at byte 62, too early for the 6148914691236517206 sequences and "
     "2 "
     "document entries that its header promises (byte 18); copy it again",
     .zeros = 20, .index = {MAGIC, 1, 8, UINT64_C(6148914691236517206), 2, {10}, {0}, 1, 62}},
    {"@/a.bin",
     "token index \"@/a.idx\" ends at byte 62, too early for the 1 sequences and "
     "18446744073709551615 document entries that its header promises (byte 18); copy it again",
     .zeros = 20, .index = {MAGIC, 1, 8, 1, UINT64_MAX, {10}, {0}, 1, 62}},
    {"@/a.bin",
     "token index \"@/a.idx\" has 63 bytes, but its 1 sequences and 2 document entries end at byte "
     "62; write it again, without multimodal modes",
     .zeros = 20, .index = {MAGIC, 1, 8, 1, 2, {10}, {0}, 1, 63}},
    {"@/a.bin", "token index \"@/a.idx\" gives sequence 1 the length -3 (byte 38); write it again",
     .zeros = 20, .index = {MAGIC, 1, 8, 2, 2, {13, -3}, {0, 26}, 2}},
    {"@/a.bin",
     "token index \"@/a.idx\" places sequence 1 at byte 14 of the .bin (byte 50), but the "
     "sequences "
     "before it end at byte 12; write it again",
     .zeros = 20, .index = {MAGIC, 1, 8, 2, 2, {6, 4}, {0, 14}, 2}},
    {"@/a.bin",
     "token index \"@/a.idx\" places sequence 0 at byte 2 of the .bin (byte 42), but the sequences "
     "before it end at byte 0; write it again",
     .zeros = 20, .index = {MAGIC, 1, 8, 2, 2, {6, 4}, {2, 12}, 2}},
    {"@/a.bin",
     "token file \"@/a.bin\" has 20 bytes, but the lengths in \"@/a.idx\" add up to 22 bytes; copy "
     "both files again",
     .zeros = 20, .index = {MAGIC, 1, 8, 2, 2, {6, 5}, {0, 12}, 2}},
    {"@/a.bin",
     "token file \"@/a.bin\" has 21 bytes, but the lengths in \"@/a.idx\" add up to 20 bytes; copy "
     "both files again",
     .zeros = 21, .index = {MAGIC, 1, 8, 2, 2, {6, 4}, {0, 12}, 2}},
    {"@/a.bin",
     "token index \"@/a.idx\" has documents that end at sequence 1 of 2 (table of documents, byte "
     "58); write it again",
     .zeros = 20, .index = {MAGIC, 1, 8, 2, 2, {6, 4}, {0, 12}, 1}},

    /* weights and lists */
    {"0 @/a.bin",
     "weight \"0\" of token file \"@/a.bin\" is not above 0 and at most 1e+12; correct it, or "
     "leave "
     "the file out",
     .zeros = 20},
    {"-1 @/a.bin",
     "weight \"-1\" of token file \"@/a.bin\" is not above 0 and at most 1e+12; correct it, or "
     "leave "
     "the file out",
     .zeros = 20},
    {"nan @/a.bin",
     "weight \"nan\" of token file \"@/a.bin\" is not above 0 and at most 1e+12; correct it, or "
     "leave "
     "the file out",
     .zeros = 20},
    {"inf @/a.bin",
     "weight \"inf\" of token file \"@/a.bin\" is not above 0 and at most 1e+12; correct it, or "
     "leave "
     "the file out",
     .zeros = 20},
    {"1e999 @/a.bin",
     "weight \"1e999\" of token file \"@/a.bin\" is not above 0 and at most 1e+12; correct it, or "
     "leave the file out",
     .zeros = 20},
    {"0.3x @/a.bin",
     "weight \"0.3x\" of token file \"@/a.bin\" is not a number; write it as \"WEIGHT PATH\", e.g. "
     "\"0.3 data/code.bin\"",
     .zeros = 20},
    {"half @/a.bin",
     "weight \"half\" of token file \"@/a.bin\" is not a number; write it as \"WEIGHT PATH\", e.g. "
     "\"0.3 data/code.bin\"",
     .zeros = 20},
    {"0.3",
     "item \"0.3\" of the list of token files is a weight without a path; write it as \"WEIGHT "
     "PATH\", e.g. \"0.3 data/code.bin\"",
     .zeros = 0},
    {"  ", "the list of token files has an empty item; remove it or name a file", .zeros = 0},
    {"0.3 @/a.bin",
     "token file \"@/a.bin\" has no weight, but \"@/a.bin\" has one; give all files a weight or "
     "none",
     .zeros = 20, .more_item = "@/a.bin"},
    {"@/a.bin",
     "token file \"@/a.bin\" has a weight, but \"@/a.bin\" has none; give all files a weight or "
     "none",
     .zeros = 20, .more_item = "2 @/a.bin"},
    {"1 @/a.bin",
     "weight 1e-06 of token file \"@/a.bin\" is under 1 of 65536 samples, the smallest share; "
     "raise "
     "it to 1.53e-05 or leave the file out",
     .zeros = 20, .more_item = "1e-6 @/a.bin"},
    {"@/a.bin",
     "token file \"@/a.bin\" holds 2 samples of 4 tokens, none of them in its training part [0, "
     "0.1); use a longer file or another split",
     .zeros = 20, .end = 0.1},
};

#define BAD_COUNT (sizeof bad_files / sizeof *bad_files)

/* '@' becomes the directory. */
static char *expand(const struct scratch *scratch, const char *text, char *out, size_t out_bytes)
{
    size_t used = 0;
    for (; *text; text++) {
        const char *piece = *text == '@' ? scratch->directory : text;
        size_t length = *text == '@' ? strlen(piece) : 1;
        assert_true(used + length < out_bytes);
        memcpy(out + used, piece, length);
        used += length;
    }
    out[used] = '\0';
    return out;
}

static void write_llmc(const struct scratch *scratch, const struct llmc *llmc)
{
    unsigned char data[4096] = {0};
    int32_t header[3] = {llmc->magic, llmc->version, llmc->count};
    memcpy(data, header, sizeof header);
    write_file(scratch, "a.bin", data, llmc->bytes);
}

static void write_index(const struct scratch *scratch, const struct index *index)
{
    unsigned char data[128] = {0};
    size_t sequences = index->sequences <= 2 ? (size_t)index->sequences : 1;
    unsigned char *pointers = data + 34 + 4 * sequences, *table = pointers + 8 * sequences;
    memcpy(data, index->magic, 9);
    memcpy(data + 9, &index->version, 8);
    data[17] = (unsigned char)index->code;
    memcpy(data + 18, &index->sequences, 8);
    memcpy(data + 26, &index->documents, 8);
    memcpy(data + 34, index->lengths, 4 * sequences);
    memcpy(pointers, index->pointers, 8 * sequences);
    memcpy(table + 8, &index->document_end, 8);
    write_file(scratch, "a.idx", data, index->bytes ? index->bytes : (size_t)(table + 16 - data));
}

static void make_files(const struct scratch *scratch, const struct bad *bad)
{
    static const unsigned char zeros[64];
    if (bad->llmc.magic)
        write_llmc(scratch, &bad->llmc);
    if (bad->content)
        write_file(scratch, "a.bin", bad->content, bad->content_bytes);
    if (bad->zeros)
        write_file(scratch, "a.bin", zeros, bad->zeros);
    if (bad->index.magic)
        write_index(scratch, &bad->index);
}

static void bad_file_is_refused_in_one_sentence(void **state)
{
    const struct bad *bad = *state;
    void *directory;
    char first[TRM_PATH_BYTES], second[TRM_PATH_BYTES], sentence[2048];
    struct trm_dataset *dataset = NULL;
    struct trm_error err = {0};
    assert_int_equal(scratch_setup(&directory), 0);
    make_files(directory, bad);
    expand(directory, bad->sentence, sentence, sizeof sentence);
    const char *items[2] = {expand(directory, bad->item, first, sizeof first)};
    if (bad->more_item)
        items[1] = expand(directory, bad->more_item, second, sizeof second);
    struct trm_dataset_settings settings = plain_settings(items, bad->more_item ? 2 : 1);
    settings.vocab_size = 256;
    settings.raw_token_bytes = bad->raw_token_bytes ? bad->raw_token_bytes : 2;
    settings.part_begin = bad->begin;
    settings.part_end = bad->end > 0 ? bad->end : 1;
    enum trm_status status = trm_dataset_open(&settings, &dataset, &err);
    trm_dataset_close(dataset);
    assert_int_equal(scratch_teardown(&directory), 0);
    assert_string_equal(err.text, sentence);
    assert_int_equal(status, TRM_ERR_INPUT);
    assert_int_equal(err.status, TRM_ERR_INPUT);
    assert_int_equal(trm_status_exit_code(status), TRM_EXIT_CONFIG);
    assert_null(dataset);
}

static void an_empty_list_is_refused(void **state)
{
    (void)state;
    struct trm_dataset *dataset = NULL;
    struct trm_error err = {0};
    struct trm_dataset_settings settings = plain_settings(NULL, 0);
    assert_int_equal(trm_dataset_open(&settings, &dataset, &err), TRM_ERR_INPUT);
    assert_string_equal(err.text, "the list of token files is empty; name one or more");
}

int main(void)
{
    static struct CMUnitTest tests[BAD_COUNT + 1];
    static char names[BAD_COUNT][160];
    for (size_t i = 0; i < BAD_COUNT; i++) {
        snprintf(names[i], sizeof names[i], "%zu: %s", i, bad_files[i].sentence);
        tests[i] = (struct CMUnitTest){.name = names[i],
                                       .test_func = bad_file_is_refused_in_one_sentence,
                                       .initial_state = (void *)(uintptr_t)&bad_files[i]};
    }
    tests[BAD_COUNT] = (struct CMUnitTest)cmocka_unit_test(an_empty_list_is_refused);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
