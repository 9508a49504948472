/* `trireme status`: how a run does, from the files in its directory alone. */
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/human.h"
#include "base/json.h"
#include "checkpoint/store.h"
#include "launch/goodput.h"
#include "tools/tools.h"

#define LIMIT_BYTES ((size_t)64 << 20)

/* The supervisor writes every second. */
#define ALIVE_SECONDS 10.0

static const char usage[] =
    "usage: trireme status [--json] RUN_DIR\n"
    "\n"
    "Tells whether the run is alive, its step, speed and loss, its nodes, checkpoints and last\n"
    "fault, and where its time went. Exit code 0 when it is alive or has ended well, 1 when not,\n"
    "66 when there is none.\n";

/* What the files say. */
struct status {
    json_t *supervised; /* owned; NULL: never under `trireme run` */
    double age_s;       /* of that */
    bool alive;
    int64_t disk_step; /* newest committed checkpoint, -1 */
    int checkpoint_count;
    bool has_goodput;
    struct trm_goodput goodput;
};

static double file_age_s(const char *path)
{
    struct stat info;
    struct timespec now;

    if (stat(path, &info) != 0)
        return INFINITY;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)(now.tv_sec - info.st_mtim.tv_sec) +
           (double)(now.tv_nsec - info.st_mtim.tv_nsec) / 1e9;
}

static enum trm_status read_status(const char *run_dir, struct status *out, struct trm_error *err)
{
    char path[TRM_PATH_BYTES], saves[TRM_PATH_BYTES];
    int64_t *steps = NULL;
    enum trm_status status = trm_file_path(path, err, "%s/supervisor/status.json", run_dir);

    *out = (struct status){.disk_step = -1, .age_s = INFINITY};
    if (status == TRM_OK)
        status = trm_file_path(saves, err, "%s/checkpoints", run_dir);
    if (status == TRM_OK && !trm_file_exists(run_dir))
        status = trm_error_set(err, TRM_ERR_NOT_FOUND, "there is no run \"%s\"", run_dir);
    if (status == TRM_OK && trm_file_exists(path))
        status = trm_json_load(path, LIMIT_BYTES, &out->supervised, err);
    if (status != TRM_OK)
        return status;
    if (trm_store_list(saves, &steps, &out->checkpoint_count, NULL) == TRM_OK) {
        out->disk_step = out->checkpoint_count > 0 ? steps[0] : -1;
        free(steps);
    }
    if (out->supervised) {
        out->age_s = file_age_s(path);
        out->alive = json_is_null(json_object_get(out->supervised, "exit_code")) &&
                     out->age_s < ALIVE_SECONDS;
        out->has_goodput = trm_goodput_read(run_dir, out->alive ? trm_clock_utc_s() : 0,
                                            &out->goodput, NULL) == TRM_OK;
    } else if (out->disk_step < 0) {
        return trm_error_set(err, TRM_ERR_NOT_FOUND,
                             "\"%s\" holds neither a supervised run nor checkpoints", run_dir);
    }
    return TRM_OK;
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text ? text : "";
}

static int64_t number_of(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static void print_nodes(const json_t *nodes)
{
    size_t i;
    json_t *node;

    json_array_foreach(nodes, i, node)
    {
        printf("node        %-16s %-12s %" PRId64 " of %" PRId64 " slots", text_of(node, "name"),
               text_of(node, "state"), number_of(node, "ranks"), number_of(node, "slots"));
        printf(text_of(node, "reason")[0] ? "  %s\n" : "%s\n", text_of(node, "reason"));
    }
}

static void print_supervised(const struct status *status)
{
    const json_t *s = status->supervised, *loss = json_object_get(s, "loss");
    const json_t *code = json_object_get(s, "exit_code");
    char duration[32], step_text[64] = "none yet", tier[32] = "none", goodput[512];
    double step_s = json_number_value(json_object_get(s, "step_seconds"));
    int64_t step = number_of(s, "step"), memory = number_of(s, "memory_step");

    trm_human_duration(duration, sizeof duration, status->age_s);
    if (json_is_integer(code))
        printf("ended       with code %d, %s ago: %s\n", (int)json_integer_value(code), duration,
               text_of(s, "reason"));
    else if (status->alive)
        printf("alive       %s; supervisor on %s (process %" PRId64 "), heard %s ago\n",
               text_of(s, "state"), text_of(s, "host"), number_of(s, "pid"), duration);
    else
        printf("not heard   of its supervisor on %s (process %" PRId64 ") for %s: it is dead, or "
               "cannot write here\n",
               text_of(s, "host"), number_of(s, "pid"), duration);
    if (step >= 0)
        snprintf(step_text, sizeof step_text, "%" PRId64 " of %" PRId64, step,
                 number_of(s, "train_iters"));
    printf("step        %s", step_text);
    if (step_s > 0)
        printf(", %s each", trm_human_duration(duration, sizeof duration, step_s));
    if (json_is_real(loss))
        printf(", loss %.5f", json_real_value(loss));
    printf("\nattempt     %" PRId64 "\n", number_of(s, "attempt"));
    print_nodes(json_object_get(s, "nodes"));
    if (memory >= 0)
        snprintf(tier, sizeof tier, "step %" PRId64, memory);
    printf("in memory   %s\n", tier);
    if (text_of(s, "last_fault")[0])
        printf("last fault  %s\n", text_of(s, "last_fault"));
    if (status->has_goodput)
        printf("goodput     %s\n", trm_goodput_text(&status->goodput, goodput, sizeof goodput));
}

static json_t *goodput_json(const struct trm_goodput *g)
{
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:I, s:I}", "wall_s", g->wall_s,
                     "steps_s", g->steps_s, "validation_s", g->validation_s, "starting_s",
                     g->starting_s, "recovering_s", g->recovering_s, "other_s", g->other_s,
                     "rank_s", g->rank_s, "steps", (json_int_t)g->steps, "faults",
                     (json_int_t)g->faults, "supervisors", (json_int_t)g->supervisors);
}

static void print_json(const struct status *status)
{
    json_t *object = status->supervised ? json_incref(status->supervised) : json_object();
    char *text;

    json_object_set_new(object, "alive", json_boolean(status->alive));
    json_object_set_new(object, "age_seconds",
                        isfinite(status->age_s) ? json_real(status->age_s) : json_null());
    json_object_set_new(object, "committed_step", json_integer(status->disk_step));
    json_object_set_new(object, "checkpoints", json_integer(status->checkpoint_count));
    json_object_set_new(object, "goodput",
                        status->has_goodput ? goodput_json(&status->goodput) : json_null());
    text = json_dumps(object, JSON_INDENT(1) | JSON_PRESERVE_ORDER);
    puts(text ? text : "{}");
    free(text);
    json_decref(object);
}

int trm_tool_status(int argc, char **argv)
{
    bool as_json = argc > 1 && strcmp(argv[1], "--json") == 0;
    const char *run_dir = argc > 1 + as_json ? argv[1 + as_json] : NULL;
    struct status status;
    struct trm_error error;

    if (!run_dir || run_dir[0] == '-' || argc > 2 + as_json) {
        bool help = run_dir && (strcmp(run_dir, "--help") == 0 || strcmp(run_dir, "-h") == 0);
        fputs(usage, help ? stdout : stderr);
        return help ? TRM_EXIT_OK : TRM_EXIT_USAGE;
    }
    if (read_status(run_dir, &status, &error) != TRM_OK) {
        fprintf(stderr, "trireme status: %s\n", error.text);
        json_decref(status.supervised);
        return trm_status_exit_code(error.status);
    }
    const json_t *code = json_object_get(status.supervised, "exit_code");
    bool well = status.alive || !status.supervised ||
                (json_is_integer(code) && (json_integer_value(code) == TRM_EXIT_OK ||
                                           json_integer_value(code) == TRM_EXIT_REQUEUE));
    if (as_json) {
        print_json(&status);
    } else {
        if (status.supervised)
            print_supervised(&status);
        else
            printf("unknown     whether it is alive: it was not started by trireme run\n");
        if (status.disk_step >= 0)
            printf("on disk     step %" PRId64 " (%d checkpoint%s)\n", status.disk_step,
                   status.checkpoint_count, status.checkpoint_count == 1 ? "" : "s");
        else
            printf("on disk     none\n");
    }
    json_decref(status.supervised);
    return well ? TRM_EXIT_OK : TRM_EXIT_DIFFERENT;
}
