/* `trireme data` as people call it: the program itself, its output and its exit codes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "support.h"

/* Runs "trireme <arguments>" in the test's directory; output[4096] gets both streams. */
static int run(const struct scratch *scratch, const char *arguments, char *output)
{
    char command[3 * TRM_PATH_BYTES];
    const char *folder = getenv("TRIREME_BIN");
    assert_non_null(folder);
    snprintf(command, sizeof command, "cd '%s' && '%s/trireme' %s 2>&1", scratch->directory, folder,
             arguments);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    size_t bytes = fread(output, 1, 4095, pipe);
    output[bytes] = '\0';
    int status = pclose(pipe);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void calls_end_with_their_exit_code_and_sentence(void **state)
{
    static const struct {
        const char *arguments;
        int code;
        const char *contains;
    } cases[] = {
        {"data prepare in.txt in.txt -o out.bin", 0,
         "wrote out.bin: 406 tokens (llm.c, uint16, vocab_size 256)\n"},
        {"data prepare in.txt --format megatron -o out", 0,
         "wrote out.bin and out.idx: 203 tokens (megatron, uint16, vocab_size 256)\n"},
        {"data prepare in.txt --format=raw --output out.raw", 0,
         "wrote out.raw: 203 tokens (raw, "},
        {"data prepare none.txt -o other.bin", 78,
         "trireme data prepare: input \"none.txt\": no such file; check the path\n"},
        {"data prepare in.txt", 64,
         "trireme data prepare: the output, -o OUT, is missing; see \"trireme data prepare "
         "--help\"\n"},
        {"data prepare -o out.bin", 64, "trireme data prepare: an input file is missing"},
        {"data prepare in.txt -o", 64, "trireme data prepare: option \"-o\" needs a value"},
        {"data prepare in.txt --fast", 64, "trireme data prepare: option \"--fast\" is not known"},
        {"data prepare in.txt -o x --format json", 64,
         "\"json\" is not a format; choose llmc, megatron or raw\n"},
        {"data inspect out.idx", 0, "format         megatron\n  documents      1\n"},
        {"data inspect out.raw --seq-length 100", 0,
         "samples        2 of 100 tokens (seq_length)\n"},
        {"data inspect out.raw", 0, "largest token  121 (needs vocab_size 122 or more)\n"},
        {"data inspect out.raw", 0,
         "most frequent        97  \"a\"             100   49.3 %  "
         "################################\n"},
        {"data inspect out.raw", 0, "begins with    \"\\\"hey\\n"},
        {"data inspect --vocab-size 100 out.raw", 78,
         "trireme data inspect: token 104 at index 1 of \"out.raw\" (byte 2) is outside the "
         "vocabulary of 100; set vocab_size to its tokenizer's, or set raw_token_type if its "
         "tokens "
         "are no uint16\n"},
        {"data inspect in.txt", 78,
         "is plain text from its first byte on; turn its text into tokens"},
        {"data inspect none out.raw", 78, "out.raw\n  format         raw\n"},
        {"data inspect out.raw --raw-token-type uint32", 78,
         "not a multiple of 4 for raw uint32 tokens"},
        {"data inspect out.raw --seq-length 0", 64,
         "--seq-length must be a whole number from 1 to 1099511627776, not \"0\"\n"},
        {"data inspect out.raw --vocab-size 12x", 64,
         "--vocab-size must be a whole number from 1 to"},
        {"data inspect", 64, "trireme data inspect: a file is missing"},
        {"data inspect --help", 0, "usage: trireme data inspect FILE ..."},
        {"data prepare --help", 0, "usage: trireme data prepare IN.txt ... -o OUT"},
        {"data", 64, "trireme data: a command is missing; there are prepare and inspect\n"},
        {"data mix", 64, "trireme data: \"mix\" is not a command; there are prepare and inspect\n"},
        {"row", 64, "trireme: \"row\" is not a command; see \"trireme --help\"\n"},
        {"", 64, "usage: trireme COMMAND"},
        {"--help", 0, "usage: trireme COMMAND"},
        {"--version", 0, "trireme "},
    };
    char text[204] = "\"hey\n", output[4096];
    memset(text + 5, 'a', 100);
    memset(text + 105, 'b', 98);
    write_file(*state, "in.txt", text, 203);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        int code = run(*state, cases[c].arguments, output);
        if (code != cases[c].code || !strstr(output, cases[c].contains))
            fail_msg("trireme %s: exit %d, not %d, and:\n%s", cases[c].arguments, code,
                     cases[c].code, output);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {SCRATCH_TEST(calls_end_with_their_exit_code_and_sentence)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
