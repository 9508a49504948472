/* `trireme sample`: text from a checkpoint, token by token. Token numbers stand for bytes when the
 * vocabulary has at most 256; larger vocabularies are read and written as numbers. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/machine.h"
#include "base/random.h"
#include "tools/inference.h"
#include "tools/tools.h"

#define BYTE_VOCABULARY 256

struct options {
    const char *checkpoint, *prompt;
    long tokens, top_k, seed;
    double temperature;
};

static const char usage_text[] =
    "usage: trireme sample CHECKPOINT [--prompt TEXT] [--tokens N] [--temperature X] [--top-k K]\n"
    "                      [--seed S]\n\n"
    "  CHECKPOINT        a checkpoint, or a directory of them (the newest sound one)\n"
    "  --prompt TEXT     what to go on from (default: a line break); for vocabularies over 256, "
    "token\n"
    "                    numbers with blanks between them\n"
    "  --tokens N        how many to write (default 256)\n"
    "  --temperature X   0 takes the likeliest token (default 0.8)\n"
    "  --top-k K         of the K likeliest alone; 0: of all (default 40)\n"
    "  --seed S          the same seed gives the same text (default 1)\n";

/* A value of `flag`, between the bounds. */
static int parse_number(const char *flag, const char *text, double low, double high, double *out)
{
    char *end;
    double value = strtod(text, &end);

    if (end == text || *end || !(value >= low && value <= high)) {
        fprintf(stderr, "trireme sample: %s takes a number from %g to %g, not \"%s\"\n", flag, low,
                high, text);
        return -1;
    }
    *out = value;
    return 0;
}

static int parse(int argc, char **argv, struct options *o)
{
    double value;

    *o =
        (struct options){.prompt = "\n", .tokens = 256, .top_k = 40, .seed = 1, .temperature = 0.8};
    for (int i = 1; i < argc; i++) {
        const char *flag = argv[i];
        if (strncmp(flag, "--", 2) != 0) {
            if (o->checkpoint) {
                fprintf(stderr, "trireme sample: one checkpoint, not also \"%s\"\n", flag);
                return -1;
            }
            o->checkpoint = flag;
            continue;
        }
        if (i + 1 == argc) {
            fprintf(stderr, "trireme sample: %s needs a value; see --help\n", flag);
            return -1;
        }
        const char *text = argv[++i];
        if (strcmp(flag, "--prompt") == 0) {
            o->prompt = text;
            continue;
        }
        bool is_temperature = strcmp(flag, "--temperature") == 0;
        if (parse_number(flag, text, 0, is_temperature ? 100 : 1e9, &value))
            return -1;
        if (strcmp(flag, "--tokens") == 0)
            o->tokens = (long)value;
        else if (is_temperature)
            o->temperature = value;
        else if (strcmp(flag, "--top-k") == 0)
            o->top_k = (long)value;
        else if (strcmp(flag, "--seed") == 0)
            o->seed = (long)value;
        else {
            fprintf(stderr, "trireme sample: unknown option \"%s\"; see --help\n", flag);
            return -1;
        }
    }
    if (!o->checkpoint)
        fprintf(stderr, "trireme sample: which checkpoint? see --help\n");
    return o->checkpoint ? 0 : -1;
}

/* The prompt as tokens: bytes, or numbers. Returns how many, -1 with a sentence. */
static long read_prompt(const struct options *o, int64_t vocab_size, int32_t *tokens, long max)
{
    const char *text = o->prompt;
    long count = 0;

    if (vocab_size <= BYTE_VOCABULARY) {
        for (; *text && count < max; text++)
            tokens[count++] = (unsigned char)*text;
    } else {
        char *end;
        for (; count < max; text = end) {
            long long token = strtoll(text, &end, 10);
            if (end == text)
                break;
            tokens[count++] = (int32_t)(token < 0 || token >= vocab_size ? vocab_size : token);
        }
    }
    for (long i = 0; i < count; i++) {
        if (tokens[i] < vocab_size)
            continue;
        fprintf(stderr,
                "trireme sample: token %ld of the prompt is not below the vocabulary of %lld\n", i,
                (long long)vocab_size);
        return -1;
    }
    if (count == 0)
        fprintf(stderr, "trireme sample: the prompt holds no token\n");
    return count > 0 ? count : -1;
}

static int descending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

/* Draws a token with probability softmax(logits / temperature) among the top_k likeliest. */
static int32_t draw(const struct options *o, const float *logits, float *sorted, int64_t vocab_size,
                    uint64_t key, uint64_t position)
{
    double total = 0, target, limit = -INFINITY, temperature = o->temperature;
    int64_t best = 0;

    for (int64_t i = 1; i < vocab_size; i++)
        if (logits[i] > logits[best])
            best = i;
    if (temperature == 0)
        return (int32_t)best;
    if (o->top_k > 0 && o->top_k < vocab_size) {
        memcpy(sorted, logits, (size_t)vocab_size * sizeof *sorted);
        qsort(sorted, (size_t)vocab_size, sizeof *sorted, descending);
        limit = sorted[o->top_k - 1];
    }
    for (int64_t i = 0; i < vocab_size; i++)
        if (logits[i] >= limit)
            total += exp((logits[i] - logits[best]) / temperature);
    target = total * trm_random_uniform(key, position);
    for (int64_t i = 0; i < vocab_size; i++) {
        if (logits[i] < limit)
            continue;
        target -= exp((logits[i] - logits[best]) / temperature);
        if (target <= 0)
            return (int32_t)i;
    }
    return (int32_t)best;
}

static void write_token(int32_t token, int64_t vocab_size)
{
    if (vocab_size <= BYTE_VOCABULARY)
        putchar(token);
    else
        printf("%d ", token);
    fflush(stdout);
}

static enum trm_status sample(const struct options *o, struct trm_inference *in,
                              struct trm_error *err)
{
    int64_t vocab_size = in->config->vocab_size, context = in->config->seq_length;
    long max = (long)strlen(o->prompt) + o->tokens + 1, count;
    int32_t *tokens = calloc((size_t)max, sizeof *tokens);
    float *logits = calloc((size_t)vocab_size * 2, sizeof *logits);
    uint64_t key = trm_random_key((uint64_t)o->seed, "sample", 0, 0);
    enum trm_status status = TRM_OK;

    count = tokens && logits ? read_prompt(o, vocab_size, tokens, max) : -1;
    if (count < 0)
        status = trm_error_set(err, TRM_ERR_CONFIG, "no usable prompt");
    for (long i = 0; i < count; i++)
        write_token(tokens[i], vocab_size);
    for (long i = 0; i < o->tokens && status == TRM_OK; i++) {
        int64_t length = count < context ? count : context;
        status = trm_model_next_logits(in->model, tokens + count - length, length, logits, err);
        if (status != TRM_OK)
            break;
        tokens[count] = draw(o, logits, logits + vocab_size, vocab_size, key, (uint64_t)i);
        write_token(tokens[count++], vocab_size);
    }
    putchar('\n');
    free(tokens);
    free(logits);
    return status;
}

int trm_tool_sample(int argc, char **argv)
{
    struct trm_inference inference;
    struct trm_error error = {0};
    struct options options;
    enum trm_status status;

    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        fputs(usage_text, stdout);
        return TRM_EXIT_OK;
    }
    if (parse(argc, argv, &options))
        return TRM_EXIT_USAGE;
    status = trm_inference_open(options.checkpoint, trm_machine_cores(), &inference, &error);
    if (status == TRM_OK) {
        status = sample(&options, &inference, &error);
        trm_inference_close(&inference);
    }
    if (status != TRM_OK)
        fprintf(stderr, "trireme sample: %s\n", error.text);
    return trm_status_exit_code(status);
}
