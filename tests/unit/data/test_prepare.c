#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support.h"
#include "trainer/data/prepare.h"

/* Over two blocks of 1 MiB, every byte value, and no length that is a multiple of anything. */
#define LONG_BYTES 2500001

static unsigned char *make_text(const struct scratch *scratch)
{
    unsigned char *text = malloc(LONG_BYTES);
    for (int i = 0; i < LONG_BYTES; i++)
        text[i] = (unsigned char)((unsigned)i * 2654435761u >> 24);
    write_file(scratch, "long.txt", text, LONG_BYTES);
    write_file(scratch, "short.txt", "oars\n", 5);
    return text;
}

static enum trm_status prepare(const struct scratch *scratch, const char *const *names, int count,
                               const char *output, enum trm_tokens_format format,
                               struct trm_prepare_result *result, struct trm_error *err)
{
    char paths[3][TRM_PATH_BYTES], output_path[TRM_PATH_BYTES];
    const char *inputs[3];
    for (int i = 0; i < count; i++)
        inputs[i] = scratch_path(scratch, names[i], paths[i]);
    struct trm_prepare_settings settings = {.inputs = inputs,
                                            .input_count = count,
                                            .output = scratch_path(scratch, output, output_path),
                                            .format = format};
    return trm_prepare_bytes(&settings, result, err);
}

static const char *const two_names[] = {"long.txt", "short.txt"};

static void every_format_gives_the_bytes_back(void **state)
{
    static const struct {
        const char *output, *path;
        enum trm_tokens_format format;
    } cases[] = {
        {"t.bin", "t.bin", TRM_TOKENS_LLMC},     {"t", "t", TRM_TOKENS_RAW},
        {"m", "m.bin", TRM_TOKENS_MEGATRON},     {"n.bin", "n.bin", TRM_TOKENS_MEGATRON},
        {"o.idx", "o.bin", TRM_TOKENS_MEGATRON},
    };
    unsigned char *text = make_text(*state);
    int32_t *read = calloc(LONG_BYTES + 5, sizeof *read);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct trm_prepare_result result;
        struct trm_tokens tokens;
        struct trm_error err = {0};
        char path[TRM_PATH_BYTES];
        if (prepare(*state, two_names, 2, cases[c].output, cases[c].format, &result, &err) !=
            TRM_OK)
            fail_msg("%s", err.text);
        assert_string_equal(result.token_path, scratch_path(*state, cases[c].path, path));
        assert_int_equal(result.tokens, LONG_BYTES + 5);
        assert_int_equal(trm_tokens_open(path, 2, &tokens, NULL), TRM_OK);
        assert_int_equal(tokens.format, cases[c].format);
        assert_int_equal(tokens.count, LONG_BYTES + 5);
        assert_int_equal(tokens.documents, cases[c].format == TRM_TOKENS_MEGATRON ? 2 : 0);
        assert_int_equal(trm_tokens_read(&tokens, 0, tokens.count, 256, read, NULL), TRM_OK);
        for (int i = 0; i < LONG_BYTES; i++)
            if (read[i] != text[i])
                fail_msg("token %d is %d, not %d", i, read[i], text[i]);
        assert_int_equal(read[LONG_BYTES], 'o');
        assert_int_equal(read[LONG_BYTES + 4], '\n');
        trm_tokens_close(&tokens);
    }
    free(read);
    free(text);
}

static void an_older_output_is_replaced(void **state)
{
    struct trm_prepare_result result;
    struct trm_tokens tokens;
    char path[TRM_PATH_BYTES];
    free(make_text(*state));
    for (int count = 2; count >= 1; count--)
        assert_int_equal(
            prepare(*state, two_names + 2 - count, count, "t.bin", TRM_TOKENS_LLMC, &result, NULL),
            TRM_OK);
    assert_int_equal(trm_tokens_open(scratch_path(*state, "t.bin", path), 2, &tokens, NULL),
                     TRM_OK);
    assert_int_equal(tokens.count, 5);
    trm_tokens_close(&tokens);
    assert_false(trm_file_exists(scratch_path(*state, "t.bin.tmp", path)));
}

static const struct {
    const char *names[2];
    int count;
    const char *output, *sentence;
    enum trm_status status;
} bad_inputs[] = {
    {{"none.txt"},
     1,
     "out.bin",
     "input \"%s/none.txt\": no such file; check the path",
     TRM_ERR_INPUT},
    {{"long.txt", "empty.txt"},
     2,
     "out.bin",
     "input \"%s/empty.txt\" is empty (0 bytes); name a file with text, or leave it out",
     TRM_ERR_INPUT},
    {{"directory"},
     1,
     "out.bin",
     "input \"%s/directory\" is a directory; name a regular file of text",
     TRM_ERR_INPUT},
    {{"long.txt"}, 0, "out.bin", "there is no input; name one or more text files", TRM_ERR_INPUT},
    {{"long.txt"},
     1,
     "taken.bin",
     "output \"%s/taken.bin\" would be read by the Megatron index \"%s/taken.idx\" next to it; "
     "remove that or choose another name",
     TRM_ERR_INPUT},
    {{"long.txt"},
     1,
     "none/out.bin",
     "could not create \"%s/none/out.bin.tmp\": no such file or directory",
     TRM_ERR_NOT_FOUND},
    {{"long.txt"},
     1,
     "long.txt",
     "output \"%s/long.txt\" is one of the inputs; choose another name",
     TRM_ERR_INPUT},
};

static void bad_inputs_are_refused_and_leave_nothing(void **state)
{
    char path[TRM_PATH_BYTES];
    const char *directory = ((struct scratch *)*state)->directory;
    free(make_text(*state));
    write_file(*state, "empty.txt", "", 0);
    write_file(*state, "taken.idx", "", 0);
    assert_int_equal(trm_file_make_directories(scratch_path(*state, "directory", path), NULL),
                     TRM_OK);
    for (size_t c = 0; c < sizeof bad_inputs / sizeof *bad_inputs; c++) {
        struct trm_prepare_result result = {.tokens = -1};
        struct trm_error err = {0};
        char sentence[1024], *at = sentence;
        for (const char *from = bad_inputs[c].sentence; *from; from++) {
            if (strncmp(from, "%s", 2) == 0) {
                at = stpcpy(at, directory);
                from++;
            } else {
                *at++ = *from;
            }
        }
        *at = '\0';
        assert_int_equal(prepare(*state, bad_inputs[c].names, bad_inputs[c].count,
                                 bad_inputs[c].output, TRM_TOKENS_LLMC, &result, &err),
                         bad_inputs[c].status);
        assert_string_equal(err.text, sentence);
        assert_int_equal(result.tokens, -1);
        assert_false(trm_file_exists(scratch_path(*state, "out.bin", path)));
        assert_false(trm_file_exists(scratch_path(*state, "out.bin.tmp", path)));
        assert_false(trm_file_exists(scratch_path(*state, "taken.bin", path)));
    }
    struct trm_tokens input; /* still there, whole */
    assert_int_equal(trm_tokens_open(scratch_path(*state, "long.txt", path), 2, &input, NULL),
                     TRM_ERR_INPUT);
    assert_true(trm_file_exists(path));
}

static void no_input_is_overwritten_whatever_the_output_is_called(void **state)
{
    static const struct {
        const char *input, *output;
        enum trm_tokens_format format;
        const char *written;
    } cases[] = {
        {"corpus.bin", "corpus", TRM_TOKENS_MEGATRON, "corpus.bin"},
        {"corpus.bin", "corpus.idx", TRM_TOKENS_MEGATRON, "corpus.bin"},
        {"corpus.idx", "corpus", TRM_TOKENS_MEGATRON, "corpus.idx"},
        {"t.bin.tmp", "t.bin", TRM_TOKENS_LLMC, "t.bin.tmp"},
        {"corpus.idx.tmp", "corpus", TRM_TOKENS_MEGATRON, "corpus.idx.tmp"},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        const char *const names[] = {cases[c].input};
        char path[TRM_PATH_BYTES], words[64], *text;
        size_t bytes;
        struct trm_prepare_result result;
        struct trm_error err = {0};
        write_file(*state, cases[c].input, "oars\n", 5);
        assert_int_equal(prepare(*state, names, 1, cases[c].output, cases[c].format, &result, &err),
                         TRM_ERR_INPUT);
        snprintf(words, sizeof words, "/%s\" is one of the inputs", cases[c].written);
        assert_non_null(strstr(err.text, words));
        assert_int_equal(
            trm_file_read_all(scratch_path(*state, cases[c].input, path), 100, &text, &bytes, &err),
            TRM_OK);
        assert_string_equal(text, "oars\n");
        free(text);
        assert_int_equal(unlink(path), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(every_format_gives_the_bytes_back),
        SCRATCH_TEST(an_older_output_is_replaced),
        SCRATCH_TEST(bad_inputs_are_refused_and_leave_nothing),
        SCRATCH_TEST(no_input_is_overwritten_whatever_the_output_is_called),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
