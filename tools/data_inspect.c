#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/human.h"
#include "tools/data.h"
#include "trainer/data/tokens.h"

#define CHUNK_TOKENS    65536
#define COUNTED_TOKENS  (1 << 18) /* values above are not counted singly: 2 MiB of counters */
#define TOP_TOKENS      10
#define BAR_COLUMNS     32
#define PREVIEW_TOKENS  240
#define PREVIEW_COLUMNS 72
#define PROGRESS_BYTES  (INT64_C(256) << 20)

static const char help[] =
    "usage: trireme data inspect FILE ... [OPTION ...]\n\n"
    "Reads token files whole and tells what they hold. FILE may be the prefix of a Megatron "
    "pair.\n\n"
    "  --seq-length N         tokens per sample, to count samples (default 1024)\n"
    "  --vocab-size N         fail when a token is not below N\n"
    "  --raw-token-type TYPE  uint16 or uint32, of files without a header (default uint16)\n";

static const struct option options[] = {
    {"seq-length", required_argument, NULL, 's'},
    {"vocab-size", required_argument, NULL, 'v'},
    {"raw-token-type", required_argument, NULL, 'r'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

struct request {
    int64_t seq_length, vocab_size;
    int raw_token_bytes;
};

struct census {
    int32_t smallest, largest;
    int64_t *counts; /* [COUNTED_TOKENS] */
    int32_t *chunk;  /* [CHUNK_TOKENS] */
};

static enum trm_status count_tokens(const struct trm_tokens *tokens, int64_t vocab_size,
                                    struct census *census, struct trm_error *err)
{
    struct trm_progress progress;
    bool shown = tokens->mapping.bytes >= PROGRESS_BYTES;
    enum trm_status status = TRM_OK;
    census->smallest = INT32_MAX;
    census->largest = 0;
    memset(census->counts, 0, COUNTED_TOKENS * sizeof *census->counts);
    if (shown)
        trm_progress_begin(&progress, STDERR_FILENO, "reading", (uint64_t)tokens->mapping.bytes);
    for (int64_t at = 0; at < tokens->count; at += CHUNK_TOKENS) {
        int64_t count = tokens->count - at < CHUNK_TOKENS ? tokens->count - at : CHUNK_TOKENS;
        status = trm_tokens_read(tokens, at, count, vocab_size, census->chunk, err);
        if (status != TRM_OK)
            break;
        for (int64_t i = 0; i < count; i++) {
            int32_t token = census->chunk[i];
            if (token < COUNTED_TOKENS)
                census->counts[token]++;
            census->largest = token > census->largest ? token : census->largest;
            census->smallest = token < census->smallest ? token : census->smallest;
        }
        if (shown)
            trm_progress_update(&progress,
                                (uint64_t)((at + count) * trm_token_bytes(tokens->type)));
    }
    if (shown)
        trm_progress_end(&progress);
    return status;
}

/* A byte as one to four printable characters. */
static int print_byte(int byte, char text[5])
{
    static const char plain[] = "\n\t\r\"\\", letters[] = "ntr\"\\";
    const char *escaped = byte ? strchr(plain, byte) : NULL;
    if (escaped)
        return snprintf(text, 5, "\\%c", letters[escaped - plain]);
    if (byte >= 0x20 && byte < 0x7f)
        return snprintf(text, 5, "%c", byte);
    return snprintf(text, 5, "\\x%02x", (unsigned)byte & 0xff);
}

static void print_most_frequent(const struct trm_tokens *tokens, const struct census *census)
{
    int32_t limit = census->largest < COUNTED_TOKENS ? census->largest + 1 : COUNTED_TOKENS;
    int64_t above = INT64_MAX, best_count = 0;
    int32_t previous = -1;
    for (int row = 0; row < TOP_TOKENS; row++) {
        /* The next in order of (count descending, token ascending). */
        int32_t best = -1;
        for (int32_t token = 0; token < limit; token++) {
            int64_t count = census->counts[token];
            bool behind = count < above || (count == above && token > previous);
            if (count > 0 && behind && (best < 0 || count > census->counts[best]))
                best = token;
        }
        if (best < 0)
            return;
        above = census->counts[best];
        previous = best;
        best_count = row == 0 ? above : best_count;
        char text[5], quoted[8] = "", count[32], bar[BAR_COLUMNS + 1] = "";
        if (census->largest < 256 && print_byte(best, text) > 0)
            snprintf(quoted, sizeof quoted, "\"%s\"", text);
        memset(bar, '#', (size_t)((above * BAR_COLUMNS + best_count - 1) / best_count));
        printf("  %-15s%8" PRId32 "  %-6s %12s  %5.1f %%  %s\n", row ? "" : "most frequent", best,
               quoted, trm_human_count(count, sizeof count, (uint64_t)above),
               100.0 * (double)above / (double)tokens->count, bar);
    }
}

/* What the first tokens say when all are bytes. The file was read whole: these are in range. */
static void print_preview(const struct trm_tokens *tokens, const struct census *census)
{
    if (census->largest > 255)
        return;
    int64_t count = tokens->count < PREVIEW_TOKENS ? tokens->count : PREVIEW_TOKENS;
    if (trm_tokens_read(tokens, 0, count, 256, census->chunk, NULL) != TRM_OK)
        return;
    int column = 0;
    printf("  %-15s\"", "begins with");
    for (int64_t i = 0; i < count; i++) {
        char text[5];
        column += print_byte(census->chunk[i], text);
        fputs(text, stdout);
        if (column >= PREVIEW_COLUMNS && i + 1 < count) {
            printf("\"\n%*s\"", 17, "");
            column = 0;
        }
    }
    printf("\"\n");
}

static void print_file(const struct trm_tokens *tokens, const struct census *census,
                       int64_t seq_length)
{
    char text[32];
    int64_t distinct = 0;
    for (int i = 0; i < COUNTED_TOKENS; i++)
        distinct += census->counts[i] > 0;
    printf("%s\n", tokens->path);
    printf("  %-15s%s\n", "format", trm_tokens_format_name(tokens->format));
    if (tokens->format == TRM_TOKENS_MEGATRON) {
        printf("  %-15s%s\n", "documents",
               trm_human_count(text, sizeof text, (uint64_t)tokens->documents));
        printf("  %-15s%s\n", "sequences",
               trm_human_count(text, sizeof text, (uint64_t)tokens->sequences));
    }
    printf("  %-15s%" PRId64 "\n", "tokens", tokens->count);
    printf("  %-15s%s\n", "size",
           trm_human_bytes(text, sizeof text, (uint64_t)tokens->mapping.bytes));
    printf("  %-15s%s\n", "token type", trm_token_type_name(tokens->type));
    printf("  %-15s%" PRId32 " (needs vocab_size %" PRId64 " or more)\n", "largest token",
           census->largest, (int64_t)census->largest + 1);
    printf("  %-15s%" PRId32 "\n", "smallest token", census->smallest);
    printf("  %-15s%" PRId64 "%s\n", "distinct", distinct,
           census->largest < COUNTED_TOKENS ? "" : " below 262144");
    printf("  %-15s%" PRId64 " of %" PRId64 " tokens (seq_length)\n", "samples",
           (tokens->count - 1) / seq_length, seq_length);
    print_most_frequent(tokens, census);
    print_preview(tokens, census);
}

static int inspect(const char *path, const struct request *request, struct census *census)
{
    struct trm_tokens tokens = {0};
    struct trm_error err;
    enum trm_status status = trm_tokens_open(path, request->raw_token_bytes, &tokens, &err);
    if (status == TRM_OK)
        status = count_tokens(&tokens, request->vocab_size, census, &err);
    if (status == TRM_OK)
        print_file(&tokens, census, request->seq_length);
    trm_tokens_close(&tokens);
    if (status == TRM_OK)
        return TRM_EXIT_OK;
    fflush(stdout);
    return trm_tool_data_fail("inspect", &err);
}

/* 1 to `maximum`, or a sentence and false. */
static bool parse_count(const char *option, const char *text, int64_t maximum, int64_t *value)
{
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (*text && !*end && !errno && number >= 1 && number <= maximum) {
        *value = number;
        return true;
    }
    fprintf(stderr,
            "trireme data inspect: %s must be a whole number from 1 to %" PRId64 ", not \"%s\"\n",
            option, maximum, text);
    return false;
}

static bool parse_option(int found, struct request *request)
{
    if (found == 's')
        return parse_count("--seq-length", optarg, INT64_C(1) << 40, &request->seq_length);
    if (found == 'v')
        return parse_count("--vocab-size", optarg, INT32_MAX, &request->vocab_size);
    if (strcmp(optarg, "uint16") == 0 || strcmp(optarg, "uint32") == 0) {
        request->raw_token_bytes = strcmp(optarg, "uint16") == 0 ? 2 : 4;
        return true;
    }
    fprintf(stderr, "trireme data inspect: --raw-token-type must be uint16 or uint32, not \"%s\"\n",
            optarg);
    return false;
}

int trm_tool_data_inspect(int argc, char **argv)
{
    struct request request = {.seq_length = 1024, .vocab_size = INT32_MAX, .raw_token_bytes = 2};
    struct census census = {0};
    int found, result = TRM_EXIT_OK;
    optind = 0;
    opterr = 0;
    while ((found = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
        if (found == 'h') {
            fputs(help, stdout);
            return TRM_EXIT_OK;
        }
        if (found == ':' || found == '?')
            return trm_tool_data_refuse_option("inspect", found, argv);
        if (!parse_option(found, &request))
            return TRM_EXIT_USAGE;
    }
    if (optind == argc) {
        fprintf(stderr,
                "trireme data inspect: a file is missing; see \"trireme data inspect --help\"\n");
        return TRM_EXIT_USAGE;
    }
    census.counts = calloc(COUNTED_TOKENS, sizeof *census.counts);
    census.chunk = calloc(CHUNK_TOKENS, sizeof *census.chunk);
    if (!census.counts || !census.chunk) {
        fprintf(stderr, "trireme data inspect: no memory for counters\n");
        result = TRM_EXIT_OS;
    }
    for (int i = optind; result != TRM_EXIT_OS && i < argc; i++) {
        int file_result = inspect(argv[i], &request, &census);
        result = file_result != TRM_EXIT_OK ? file_result : result;
    }
    free(census.counts);
    free(census.chunk);
    return result;
}
