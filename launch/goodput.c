#include "launch/goodput.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/human.h"
#include "base/json.h"

/* A supervisor's time. */
struct session {
    double begin_s, last_s;
    double start_s, fault_s; /* since when it starts or recovers; NAN: it does not */
    double held_s;           /* since when it holds `ranks` */
    double ranks;
};

struct reading {
    struct trm_goodput *sum;
    struct session *sessions; /* owned */
    int count, room;
};

static enum trm_status each_line(const char *run_dir, const char *name,
                                 enum trm_status (*take)(struct reading *, const char *, size_t),
                                 struct reading *reading, struct trm_error *err)
{
    char path[TRM_PATH_BYTES], *line = NULL;
    size_t room = 0;
    ssize_t bytes;
    enum trm_status status = trm_file_path(path, err, "%s/%s", run_dir, name);

    if (status != TRM_OK)
        return status;
    FILE *file = fopen(path, "re");
    if (!file && errno == ENOENT)
        return trm_error_set(err, TRM_ERR_NOT_FOUND, "there is no \"%s\"", path);
    if (!file)
        return trm_error_set_errno(err, errno, "could not open \"%s\"", path);
    while (status == TRM_OK && (bytes = getline(&line, &room, file)) > 0)
        status = take(reading, line, (size_t)bytes);
    if (status == TRM_OK && ferror(file))
        status = trm_error_set_errno(err, errno, "could not read \"%s\"", path);
    else if (status != TRM_OK)
        trm_error_set(err, status, "no memory for \"%s\"", path);
    free(line);
    fclose(file);
    return status;
}

static enum trm_status begin(struct reading *reading, double time_s, double ranks)
{
    if (reading->count == reading->room) {
        int room = reading->room ? 2 * reading->room : 16;
        struct session *grown =
            realloc(reading->sessions, (size_t)room * sizeof *reading->sessions);
        if (!grown)
            return TRM_ERR_MEMORY;
        reading->sessions = grown;
        reading->room = room;
    }
    reading->sessions[reading->count++] = (struct session){.begin_s = time_s,
                                                           .last_s = time_s,
                                                           .start_s = time_s,
                                                           .fault_s = NAN,
                                                           .held_s = time_s,
                                                           .ranks = ranks};
    return TRM_OK;
}

/* Makes steps, or never will again: what it waited for until then. */
static void close_waits(struct trm_goodput *sum, struct session *session, double time_s)
{
    if (!isnan(session->start_s))
        sum->starting_s += time_s - session->start_s;
    else if (!isnan(session->fault_s))
        sum->recovering_s += time_s - session->fault_s;
    session->start_s = session->fault_s = NAN;
}

static void hold(struct trm_goodput *sum, struct session *session, double time_s, double ranks)
{
    sum->rank_s += session->ranks * (time_s - session->held_s);
    session->held_s = time_s;
    session->ranks = ranks;
}

static void take_within(struct trm_goodput *sum, struct session *session, const char *kind,
                        const json_t *event, double time_s)
{
    if (strcmp(kind, "attempt") == 0) {
        hold(sum, session, time_s, json_number_value(json_object_get(event, "ranks")));
    } else if (strcmp(kind, "recovered") == 0) {
        close_waits(sum, session, time_s);
    } else if (strcmp(kind, "fault") == 0) {
        sum->faults++;
        if (isnan(session->start_s) && isnan(session->fault_s))
            session->fault_s =
                fmax(session->begin_s,
                     time_s - json_number_value(json_object_get(event, "detection_s")));
    }
    session->last_s = fmax(session->last_s, time_s);
}

static enum trm_status take_event(struct reading *reading, const char *line, size_t bytes)
{
    json_t *event;
    enum trm_status status = TRM_OK;

    if (trm_json_parse(line, bytes, "events.jsonl", &event, NULL) != TRM_OK)
        return TRM_OK;
    const char *kind = json_string_value(json_object_get(event, "event"));
    double time_s = json_number_value(json_object_get(event, "time"));
    if (kind && time_s > 0 && strcmp(kind, "begin") == 0)
        status = begin(reading, time_s, json_number_value(json_object_get(event, "ranks")));
    else if (kind && time_s > 0 && reading->count > 0)
        take_within(reading->sum, &reading->sessions[reading->count - 1], kind, event, time_s);
    json_decref(event);
    return status;
}

/* The number behind "key": in a line; NAN: there is none. */
static double number_in(const char *line, const char *key)
{
    char quoted[64], *end;

    snprintf(quoted, sizeof quoted, "\"%s\": ", key);
    const char *found = strstr(line, quoted);
    if (!found)
        return NAN;
    double value = strtod(found + strlen(quoted), &end);
    return end > found + strlen(quoted) && *end != '\0' ? value : NAN;
}

/* A line a step: many, and so not taken apart as JSON. */
static enum trm_status take_metrics(struct reading *reading, const char *line, size_t bytes)
{
    double step_ms = number_in(line, "step_ms"), time_s = number_in(line, "time");
    double validation_ms = number_in(line, "validation_ms");

    (void)bytes;
    if (validation_ms > 0)
        reading->sum->validation_s += validation_ms / 1e3;
    if (isnan(step_ms) || isnan(time_s))
        return TRM_OK;
    reading->sum->steps++;
    reading->sum->steps_s += step_ms / 1e3;
    for (int i = reading->count - 1; i >= 0; i--)
        if (reading->sessions[i].begin_s <= time_s) {
            reading->sessions[i].last_s = fmax(reading->sessions[i].last_s, time_s);
            break;
        }
    return TRM_OK;
}

static void add_up(struct reading *reading, double alive_s)
{
    struct trm_goodput *sum = reading->sum;

    for (int i = 0; i < reading->count; i++) {
        struct session *session = &reading->sessions[i];
        if (i == reading->count - 1)
            session->last_s = fmax(session->last_s, alive_s);
        close_waits(sum, session, session->last_s);
        hold(sum, session, session->last_s, 0);
        sum->wall_s += session->last_s - session->begin_s;
    }
    sum->supervisors = reading->count;
    sum->other_s = fmax(0, sum->wall_s - sum->steps_s - sum->validation_s - sum->starting_s -
                               sum->recovering_s);
}

enum trm_status trm_goodput_read(const char *run_dir, double alive_s, struct trm_goodput *out,
                                 struct trm_error *err)
{
    struct trm_goodput sum = {0};
    struct reading reading = {.sum = &sum};
    enum trm_status status = each_line(run_dir, "events.jsonl", take_event, &reading, err);

    if (status == TRM_OK) {
        status = each_line(run_dir, "metrics.jsonl", take_metrics, &reading, err);
        if (status == TRM_ERR_NOT_FOUND) /* no step yet */
            status = TRM_OK;
    }
    if (status == TRM_OK) {
        add_up(&reading, alive_s);
        *out = sum;
    }
    free(reading.sessions);
    return status;
}

char *trm_goodput_text(const struct trm_goodput *goodput, char *text, size_t text_bytes)
{
    char wall[32];
    double percent = goodput->wall_s > 0 ? 100 / goodput->wall_s : 0;

    snprintf(text, text_bytes,
             "%.1f %% of %s went into steps that count, %.1f %% into validation, %.1f %% into "
             "starting, %.1f %% into recovering from %lld fault%s, %.1f %% into the rest; "
             "%.4g rank hours",
             goodput->steps_s * percent, trm_human_duration(wall, sizeof wall, goodput->wall_s),
             goodput->validation_s * percent, goodput->starting_s * percent,
             goodput->recovering_s * percent, (long long)goodput->faults,
             goodput->faults == 1 ? "" : "s", goodput->other_s * percent, goodput->rank_s / 3600);
    return text;
}
