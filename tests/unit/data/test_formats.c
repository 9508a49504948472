#include <stdlib.h>
#include <string.h>

#include "support.h"

#define TOKENS 1000

static int32_t value_of(int64_t i)
{
    return (int32_t)(i * 2654435761u % 251);
}

/* The file written as each type holds the same tokens. */
static size_t encode(unsigned char *out, enum trm_token_type type, int64_t count)
{
    int bytes = trm_token_bytes(type);
    for (int64_t i = 0; i < count; i++) {
        int64_t token = value_of(i) % (type == TRM_TOKEN_INT8 ? 128 : 251);
        memcpy(out + i * bytes, &token, (size_t)bytes);
    }
    return (size_t)(count * bytes);
}

static size_t encode_llmc(unsigned char *out, enum trm_token_type type)
{
    int32_t header[256] = {type == TRM_TOKEN_UINT16 ? 20240520 : 20240801,
                           type == TRM_TOKEN_UINT16 ? 1 : 7, TOKENS};
    memcpy(out, header, sizeof header);
    return sizeof header + encode(out + sizeof header, type, TOKENS);
}

/* Three sequences of 1, 0 and the rest, in two documents. */
static size_t encode_index(unsigned char *out, enum trm_token_type type)
{
    int64_t bytes = trm_token_bytes(type);
    uint64_t version = 1, sequences = 3, documents = 3;
    int32_t lengths[3] = {1, 0, TOKENS - 1};
    int64_t pointers[3] = {0, bytes, bytes}, table[3] = {0, 2, 3};
    memcpy(out, "MMIDIDX\0\0", 9);
    memcpy(out + 9, &version, 8);
    out[17] = (unsigned char)type;
    memcpy(out + 18, &sequences, 8);
    memcpy(out + 26, &documents, 8);
    memcpy(out + 34, lengths, 12);
    memcpy(out + 46, pointers, 24);
    memcpy(out + 70, table, 24);
    return 94;
}

static void check_tokens(const struct scratch *scratch, const char *name, int raw_token_bytes,
                         enum trm_tokens_format format, enum trm_token_type type)
{
    char path[TRM_PATH_BYTES];
    struct trm_tokens tokens;
    struct trm_error err = {0};
    int32_t read[TOKENS];
    if (trm_tokens_open(scratch_path(scratch, name, path), raw_token_bytes, &tokens, &err) !=
        TRM_OK)
        fail_msg("%s", err.text);
    assert_int_equal(tokens.format, format);
    assert_int_equal(tokens.type, type);
    assert_int_equal(tokens.count, TOKENS);
    assert_int_equal(trm_tokens_read(&tokens, 0, TOKENS, 251, read, &err), TRM_OK);
    for (int i = 0; i < TOKENS; i++)
        assert_int_equal(read[i], value_of(i) % (type == TRM_TOKEN_INT8 ? 128 : 251));
    /* A window in the middle, and one that ends at the last token. */
    assert_int_equal(trm_tokens_read(&tokens, 17, 3, 251, read, &err), TRM_OK);
    assert_int_equal(read[2], value_of(19) % (type == TRM_TOKEN_INT8 ? 128 : 251));
    assert_int_equal(trm_tokens_read(&tokens, TOKENS - 1, 1, 251, read, &err), TRM_OK);
    assert_int_equal(read[0], value_of(TOKENS - 1) % (type == TRM_TOKEN_INT8 ? 128 : 251));
    trm_tokens_close(&tokens);
}

static void raw_files_hold_their_tokens(void **state)
{
    unsigned char data[4 * TOKENS];
    write_file(*state, "a.bin", data, encode(data, TRM_TOKEN_UINT16, TOKENS));
    check_tokens(*state, "a.bin", 2, TRM_TOKENS_RAW, TRM_TOKEN_UINT16);
    write_file(*state, "b", data, encode(data, TRM_TOKEN_UINT32, TOKENS));
    check_tokens(*state, "b", 4, TRM_TOKENS_RAW, TRM_TOKEN_UINT32);
}

static void llmc_files_hold_their_tokens(void **state)
{
    unsigned char data[1024 + 4 * TOKENS];
    write_file(*state, "a.bin", data, encode_llmc(data, TRM_TOKEN_UINT16));
    check_tokens(*state, "a.bin", 4, TRM_TOKENS_LLMC, TRM_TOKEN_UINT16);
    write_file(*state, "b.bin", data, encode_llmc(data, TRM_TOKEN_UINT32));
    check_tokens(*state, "b.bin", 2, TRM_TOKENS_LLMC, TRM_TOKEN_UINT32);
}

static void megatron_files_of_every_integer_type_hold_their_tokens(void **state)
{
    static const enum trm_token_type types[] = {TRM_TOKEN_UINT8, TRM_TOKEN_INT8,  TRM_TOKEN_INT16,
                                                TRM_TOKEN_INT32, TRM_TOKEN_INT64, TRM_TOKEN_UINT16};
    unsigned char data[8 * TOKENS], index[128];
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        write_file(*state, "m.bin", data, encode(data, types[t], TOKENS));
        write_file(*state, "m.idx", index, encode_index(index, types[t]));
        check_tokens(*state, "m.bin", 2, TRM_TOKENS_MEGATRON, types[t]);
        check_tokens(*state, "m.idx", 2, TRM_TOKENS_MEGATRON, types[t]);
        check_tokens(*state, "m", 2, TRM_TOKENS_MEGATRON, types[t]);
    }
}

static void a_prefix_may_be_the_name_of_a_directory_too(void **state)
{
    unsigned char data[8 * TOKENS], index[128];
    char path[TRM_PATH_BYTES];
    assert_int_equal(trm_file_make_directories(scratch_path(*state, "m", path), NULL), TRM_OK);
    write_file(*state, "m.bin", data, encode(data, TRM_TOKEN_UINT16, TOKENS));
    write_file(*state, "m.idx", index, encode_index(index, TRM_TOKEN_UINT16));
    check_tokens(*state, "m", 2, TRM_TOKENS_MEGATRON, TRM_TOKEN_UINT16);
}

static void megatron_files_tell_sequences_and_documents(void **state)
{
    unsigned char data[8 * TOKENS], index[128];
    char path[TRM_PATH_BYTES];
    struct trm_tokens tokens;
    write_file(*state, "m.bin", data, encode(data, TRM_TOKEN_INT32, TOKENS));
    write_file(*state, "m.idx", index, encode_index(index, TRM_TOKEN_INT32));
    assert_int_equal(trm_tokens_open(scratch_path(*state, "m", path), 2, &tokens, NULL), TRM_OK);
    assert_int_equal(tokens.sequences, 3);
    assert_int_equal(tokens.documents, 2);
    trm_tokens_close(&tokens);
}

static void short_raw_files_are_not_taken_for_text(void **state)
{
    char path[TRM_PATH_BYTES];
    struct trm_tokens tokens;
    write_file(*state, "t", "0123456789", 10);
    assert_int_equal(trm_tokens_open(scratch_path(*state, "t", path), 2, &tokens, NULL), TRM_OK);
    assert_int_equal(tokens.count, 5);
    trm_tokens_close(&tokens);
}

static void the_three_formats_are_the_same_dataset(void **state)
{
    unsigned char data[1024 + 8 * TOKENS], index[128];
    char paths[3][TRM_PATH_BYTES];
    struct trm_dataset *datasets[3];
    write_file(*state, "raw", data, encode(data, TRM_TOKEN_UINT16, TOKENS));
    write_file(*state, "llmc", data, encode_llmc(data, TRM_TOKEN_UINT32));
    write_file(*state, "mega.bin", data, encode(data, TRM_TOKEN_INT64, TOKENS));
    write_file(*state, "mega.idx", index, encode_index(index, TRM_TOKEN_INT64));
    static const char *const names[] = {"raw", "llmc", "mega"};
    for (int f = 0; f < 3; f++) {
        const char *path = scratch_path(*state, names[f], paths[f]);
        struct trm_dataset_settings settings = plain_settings(&path, 1);
        assert_int_equal(trm_dataset_open(&settings, &datasets[f], NULL), TRM_OK);
        assert_string_equal(trm_dataset_file(datasets[f], 0).format, f == 0   ? "raw"
                                                                     : f == 1 ? "llm.c"
                                                                              : "megatron");
    }
    for (int64_t number = 0; number < 600; number++) {
        int32_t tokens[3][5];
        for (int f = 0; f < 3; f++)
            assert_int_equal(trm_dataset_read(datasets[f], number, tokens[f], NULL), TRM_OK);
        assert_memory_equal(tokens[0], tokens[1], sizeof tokens[0]);
        assert_memory_equal(tokens[0], tokens[2], sizeof tokens[0]);
    }
    for (int f = 0; f < 3; f++)
        trm_dataset_close(datasets[f]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(raw_files_hold_their_tokens),
        SCRATCH_TEST(llmc_files_hold_their_tokens),
        SCRATCH_TEST(megatron_files_of_every_integer_type_hold_their_tokens),
        SCRATCH_TEST(a_prefix_may_be_the_name_of_a_directory_too),
        SCRATCH_TEST(megatron_files_tell_sequences_and_documents),
        SCRATCH_TEST(short_raw_files_are_not_taken_for_text),
        SCRATCH_TEST(the_three_formats_are_the_same_dataset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
