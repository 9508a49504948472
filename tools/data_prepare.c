#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/human.h"
#include "tools/data.h"
#include "trainer/data/prepare.h"

/* Below this the work is over before a person could read of its progress. */
#define PROGRESS_BYTES (INT64_C(64) << 20)

static const char help[] =
    "usage: trireme data prepare IN.txt ... -o OUT [--format llmc|megatron|raw]\n\n"
    "Turns text into byte-level tokens: a token is the value of a byte, so vocab_size is 256.\n"
    "The inputs are joined in the order given.\n\n"
    "  -o, --output OUT  the token file to write; for megatron the prefix of .bin and .idx\n"
    "  --format llmc     a header and uint16 tokens, as llm.c reads them (default)\n"
    "  --format megatron Megatron-LM's .bin and .idx, a document per input\n"
    "  --format raw      uint16 tokens alone, as nanoGPT reads them\n";

static const struct option options[] = {
    {"output", required_argument, NULL, 'o'},
    {"format", required_argument, NULL, 'f'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static const struct {
    const char *name;
    enum trm_tokens_format format;
} formats[] = {
    {"llmc", TRM_TOKENS_LLMC}, {"megatron", TRM_TOKENS_MEGATRON}, {"raw", TRM_TOKENS_RAW}};

static int find_format(const char *name, enum trm_tokens_format *format)
{
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        if (strcmp(name, formats[i].name) == 0) {
            *format = formats[i].format;
            return 1;
        }
    }
    return 0;
}

static void show_progress(void *context, int64_t done_bytes, int64_t total_bytes)
{
    struct trm_progress *progress = context;
    if (total_bytes < PROGRESS_BYTES)
        return;
    if (!progress->label)
        trm_progress_begin(progress, STDERR_FILENO, "tokens", (uint64_t)total_bytes);
    trm_progress_update(progress, (uint64_t)done_bytes);
    if (done_bytes == total_bytes)
        trm_progress_end(progress);
}

int trm_tool_data_prepare(int argc, char **argv)
{
    struct trm_progress progress = {0};
    struct trm_prepare_settings settings = {
        .format = TRM_TOKENS_LLMC, .progress = show_progress, .progress_context = &progress};
    struct trm_prepare_result result;
    struct trm_error err;
    char count[32];
    int found;
    optind = 0;
    opterr = 0;
    while ((found = getopt_long(argc, argv, ":o:h", options, NULL)) != -1) {
        if (found == 'h') {
            fputs(help, stdout);
            return TRM_EXIT_OK;
        }
        if (found == ':' || found == '?')
            return trm_tool_data_refuse_option("prepare", found, argv);
        if (found == 'o')
            settings.output = optarg;
        if (found == 'f' && !find_format(optarg, &settings.format)) {
            fprintf(stderr,
                    "trireme data prepare: \"%s\" is not a format; choose llmc, megatron or raw\n",
                    optarg);
            return TRM_EXIT_USAGE;
        }
    }
    settings.inputs = (const char *const *)(argv + optind);
    settings.input_count = argc - optind;
    if (settings.input_count == 0 || !settings.output || !*settings.output) {
        fprintf(stderr,
                "trireme data prepare: %s is missing; see \"trireme data prepare --help\"\n",
                settings.input_count == 0 ? "an input file" : "the output, -o OUT,");
        return TRM_EXIT_USAGE;
    }
    if (trm_prepare_bytes(&settings, &result, &err) != TRM_OK)
        return trm_tool_data_fail("prepare", &err);
    printf("wrote %s%s%s: %s tokens (%s, uint16, vocab_size 256)\n", result.token_path,
           result.index_path[0] ? " and " : "", result.index_path,
           trm_human_count(count, sizeof count, (uint64_t)result.tokens),
           trm_tokens_format_name(settings.format));
    return TRM_EXIT_OK;
}
