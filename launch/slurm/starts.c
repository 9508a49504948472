#include "launch/slurm/starts.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/link/report.h"

#define START_BYTES ((size_t)1024)

static const char *const end_names[TRM_START_ENDS] = {
    [TRM_START_VANISHED] = "vanished",
    [TRM_START_STOPPED] = "stopped",
    [TRM_START_PREEMPTED] = "preempted",
};

static void describe_step(int64_t step, char text[64])
{
    if (step < 0)
        snprintf(text, 64, "a first checkpoint");
    else
        snprintf(text, 64, "a checkpoint beyond step %" PRId64, step);
}

bool trm_start_judge(const struct trm_start *previous, const char *chain, int64_t step,
                     int most_fruitless, struct trm_start *start, struct trm_error *err)
{
    bool same = previous && strcmp(previous->chain, chain) == 0;
    char wanted[64];

    *start = (struct trm_start){.step = step, .end = TRM_START_VANISHED};
    snprintf(start->chain, sizeof start->chain, "%s", chain);
    if (!same || step > previous->step)
        return true;
    describe_step(step, wanted);
    start->fruitless = previous->fruitless + (previous->end != TRM_START_PREEMPTED);
    if (previous->end == TRM_START_STOPPED) {
        trm_error_set(
            err, TRM_ERR_STOPPED,
            "the start before this one was stopped without %s, and this one would fare no "
            "better; give it more time, or let a smaller save_interval save earlier",
            wanted);
        return false;
    }
    if (start->fruitless >= most_fruitless) {
        trm_error_set(
            err, TRM_ERR_STOPPED,
            "%d starts in a row ended without %s; a smaller save_interval would keep more "
            "of what each does",
            start->fruitless, wanted);
        return false;
    }
    return true;
}

static enum trm_status start_path(const struct trm_attempts *attempts, char path[TRM_PATH_BYTES],
                                  struct trm_error *err)
{
    return trm_file_path(path, err, "%s/start.json", attempts->directory);
}

static enum trm_status parse(const json_t *object, struct trm_start *start, struct trm_error *err)
{
    struct trm_fields fields = {.object = object, .err = err};
    char end[16] = "";

    trm_fields_text(&fields, "chain", start->chain, sizeof start->chain);
    start->step = trm_fields_int(&fields, "step", -1, INT64_MAX);
    start->fruitless = (int)trm_fields_int(&fields, "fruitless", 0, INT32_MAX);
    trm_fields_text(&fields, "end", end, sizeof end);
    while (start->end < TRM_START_ENDS && strcmp(end, end_names[start->end]) != 0)
        start->end++;
    if (fields.status == TRM_OK && start->end == TRM_START_ENDS)
        fields.status =
            trm_error_set(err, TRM_ERR_CORRUPT, "\"end\" is \"%s\", which is none", end);
    return fields.status;
}

enum trm_status trm_start_read(const struct trm_attempts *attempts, struct trm_start *start,
                               struct trm_error *err)
{
    char path[TRM_PATH_BYTES], *text = NULL;
    struct trm_start read = {0};
    json_t *object = NULL;
    size_t bytes = 0;
    enum trm_status status = start_path(attempts, path, err);

    if (status == TRM_OK)
        status = trm_file_read_all(path, START_BYTES, &text, &bytes, err);
    if (status != TRM_OK)
        return status;
    status = trm_json_parse(text, bytes, path, &object, err);
    if (status == TRM_OK) {
        status = parse(object, &read, err);
        if (status != TRM_OK)
            trm_error_prefix(err, "%s", path);
    }
    json_decref(object);
    free(text);
    if (status == TRM_OK)
        *start = read;
    return status;
}

enum trm_status trm_start_write(const struct trm_attempts *attempts, const struct trm_start *start,
                                struct trm_error *err)
{
    char path[TRM_PATH_BYTES], text[256];
    enum trm_status status = start_path(attempts, path, err);

    if (status != TRM_OK)
        return status;
    snprintf(text, sizeof text,
             "{\"chain\": \"%s\", \"step\": %" PRId64 ", \"fruitless\": %d, \"end\": \"%s\"}\n",
             start->chain, start->step, start->fruitless, end_names[start->end]);
    return trm_file_replace(path, text, strlen(text), err);
}
