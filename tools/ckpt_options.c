#include "tools/ckpt_options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROGRESS_FROM_BYTES ((int64_t)1 << 28) /* less is soon done: no lines in a log for it */

static bool refuse(const char *command, const char *what, const char *word)
{
    fprintf(stderr, "trireme ckpt %s: %s \"%s\"; see \"trireme ckpt --help\"\n", command, what,
            word);
    return false;
}

static bool parse_shards(const char *command, const char *text, int *out)
{
    char *end;
    long value = strtol(text, &end, 10);
    if (end == text || *end != '\0' || value < 1 || value > TRM_CKPT_MAX_FILES) {
        fprintf(stderr, "trireme ckpt %s: --shards takes a number from 1 to %d, not \"%s\"\n",
                command, TRM_CKPT_MAX_FILES, text);
        return false;
    }
    *out = (int)value;
    return true;
}

static char letter_of(const char *word)
{
    if (strcmp(word, "-o") == 0)
        return 'o';
    if (strcmp(word, "--shards") == 0)
        return 's';
    return strcmp(word, "--json") == 0 ? 'j' : '?';
}

bool trm_ckpt_parse(const char *command, const char *accepted, int argc, char **argv,
                    struct trm_ckpt_options *out)
{
    struct trm_ckpt_options parsed = {0};
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        char letter = letter_of(word);
        if (word[0] != '-') {
            if (parsed.source != NULL)
                return refuse(command, "one path, not also", word);
            parsed.source = word;
            continue;
        }
        if (strchr(accepted, letter) == NULL)
            return refuse(command, "unknown option", word);
        if (letter == 'j') {
            parsed.json = true;
            continue;
        }
        if (++i == argc)
            return refuse(command, "a value is missing behind", word);
        if (letter == 'o')
            parsed.output = argv[i];
        else if (!parse_shards(command, argv[i], &parsed.shards))
            return false;
    }
    if (parsed.source == NULL || (strchr(accepted, 'o') != NULL && parsed.output == NULL)) {
        fprintf(stderr, "trireme ckpt %s: %s is missing; see \"trireme ckpt --help\"\n", command,
                parsed.source == NULL ? "what to read" : "-o");
        return false;
    }
    *out = parsed;
    return true;
}

static void say_passed_over(void *context, const char *path, const char *reason)
{
    (void)context;
    fprintf(stderr, "trireme ckpt: passing over %s: %s\n", path, reason);
}

enum trm_status trm_ckpt_open(const char *where, struct trm_stored **out, struct trm_error *err)
{
    return trm_stored_open_newest(where, -1, say_passed_over, NULL, out, err);
}

void trm_ckpt_progress_begin(struct trm_ckpt_progress *progress, const char *label, int64_t bytes)
{
    progress->shown = isatty(2) || bytes >= PROGRESS_FROM_BYTES;
    if (progress->shown)
        trm_progress_begin(&progress->line, 2, label, (uint64_t)bytes);
}

void trm_ckpt_progress_show(struct trm_ckpt_progress *progress, int64_t bytes)
{
    if (progress->shown)
        trm_progress_update(&progress->line, (uint64_t)bytes);
}

void trm_ckpt_progress_end(struct trm_ckpt_progress *progress)
{
    if (progress->shown)
        trm_progress_end(&progress->line);
}
