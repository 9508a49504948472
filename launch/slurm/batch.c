#include "launch/slurm/batch.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "launch/quote.h"

#define WHY_COLUMN 44 /* where the reasons begin */

/* Text that grows; without `text`, memory ran out. */
struct script {
    char *text;
    size_t bytes;
    FILE *file;
    struct trm_error *err;
    enum trm_status status;
};

/* Slurm reads a line's value up to a blank and knows quotes of its own: none are needed, so none
 * are let in. */
static bool is_plain(const char *value)
{
    if (!*value)
        return false;
    for (const char *at = value; *at; at++)
        if (!isgraph((unsigned char)*at) || strchr("\"'\\#`$", *at))
            return false;
    return true;
}

/* "#SBATCH --option=value   # why" */
static void add_option(struct script *script, const char *why, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void add_option(struct script *script, const char *why, const char *format, ...)
{
    va_list arguments;
    int column;

    column = fprintf(script->file, "#SBATCH --");
    va_start(arguments, format);
    column += vfprintf(script->file, format, arguments);
    va_end(arguments);
    if (why)
        fprintf(script->file, "%*s# %s", column < WHY_COLUMN ? WHY_COLUMN - column : 1, "", why);
    fputc('\n', script->file);
}

static void add_text(struct script *script, const char *option, const char *value, const char *why)
{
    if (!value || script->status != TRM_OK)
        return;
    if (!is_plain(value)) {
        script->status = trm_error_set(script->err, TRM_ERR_CONFIG,
                                       "--%s \"%s\" can't stand in a batch script: it is empty, or "
                                       "holds a blank, a quote or another special character",
                                       option, value);
        return;
    }
    add_option(script, why, "%s=%s", option, value);
}

static void add_head(struct script *script, const struct trm_batch *batch)
{
    FILE *file = script->file;
    int active = batch->nodes - batch->spares;

    fprintf(file, "#!/bin/bash\n# Made by `");
    for (const char *at = batch->made_by; *at; at++) /* a line feed would end the comment */
        fputc(iscntrl((unsigned char)*at) ? ' ' : *at, file);
    fprintf(file, "`.\n# Up to %d ranks on %d node%s", active * batch->tasks_per_node, active,
            active == 1 ? "" : "s");
    if (batch->spares > 0)
        fprintf(file, "; %d more in reserve, for when one is lost", batch->spares);
    fprintf(file, ". docs/slurm.md tells about each line.\n");
}

static void add_request(struct script *script, const struct trm_batch *batch)
{
    add_text(script, "job-name", batch->job_name, NULL);
    add_text(script, "chdir", batch->directory, "paths in the configuration start here");
    add_text(script, "output", batch->output, NULL);
    add_option(script, "each start adds to the log", "open-mode=append");
    add_text(script, "partition", batch->partition, NULL);
    add_text(script, "account", batch->account, NULL);
    add_text(script, "qos", batch->qos, NULL);
    add_text(script, "constraint", batch->constraint, NULL);
    add_option(script, NULL, "nodes=%d", batch->nodes);
    add_option(script, NULL, "ntasks-per-node=%d", batch->tasks_per_node);
    if (batch->cpus_per_task > 0)
        add_option(script, NULL, "cpus-per-task=%d", batch->cpus_per_task);
    if (batch->gpus_per_node > 0)
        add_option(script, NULL, "gpus-per-node=%d", batch->gpus_per_node);
    add_text(script, "mem", batch->mem, NULL);
    add_text(script, "time", batch->time, NULL);
    if (batch->time)
        add_option(script, "so long before the limit: save, and stop", "signal=B:USR1@%d",
                   batch->stop_before_s);
    if (batch->nodes > 1)
        add_option(script, "a lost node does not end the job", "no-kill");
    add_option(script, "one job of this name at a time", "dependency=singleton");
    if (batch->chain > 0) {
        add_option(script, "one after the other, each goes on with the run", "array=1-%d%%1",
                   batch->chain);
        add_option(script, NULL, "no-requeue");
    } else {
        add_option(script, "the run goes on in another start of this job", "requeue");
    }
}

/* Exit codes after which another start goes on: 75 stopped on request, 69 too few nodes are left;
 * 138 and 143 are USR1 and TERM, met before it could listen to them. */
static void add_body(struct script *script, const struct trm_batch *batch)
{
    FILE *file = script->file;

    fprintf(file, "stop() { signal=$1; [ -z \"$run\" ] || kill -s \"$signal\" \"$run\"; }\n"
                  "trap 'stop USR1' USR1; trap 'stop TERM' TERM # first, so that none is missed\n"
                  "\n");
    if (batch->profile) {
        fprintf(file, ". ");
        trm_quote_word(file, batch->profile);
        fprintf(file, "\n");
    }
    trm_quote_word(file, batch->program);
    fprintf(file, " run");
    if (batch->spares > 0)
        fprintf(file, " --spares %d", batch->spares);
    for (int i = 0; i < batch->argument_count; i++) {
        fputc(' ', file);
        trm_quote_word(file, batch->arguments[i]);
    }
    fprintf(
        file,
        " &\n"
        "run=$!\n"
        "[ -z \"$signal\" ] || stop \"$signal\"\n"
        "while kill -s 0 \"$run\" 2>/dev/null; do wait \"$run\"; done # a signal interrupts wait\n"
        "wait \"$run\"\n"
        "code=$?\n"
        "\n");
    if (batch->chain > 0)
        fprintf(file, "case $code in\n"
                      "69 | 75 | 138 | 143) ;; # the next job of the array goes on\n"
                      "*) scancel --state=PENDING \"$SLURM_ARRAY_JOB_ID\" ;;\n"
                      "esac\n");
    else
        fprintf(file, "case $code in\n"
                      "69 | 75 | 138 | 143) # it can go on, unless somebody cancelled the job\n"
                      "    [ -z \"$(squeue -h -t RUNNING -j \"$SLURM_JOB_ID\")\" ] || "
                      "scontrol requeue \"$SLURM_JOB_ID\" ;;\n"
                      "esac\n");
    fprintf(file, "exit \"$code\"\n");
}

enum trm_status trm_batch_write(const struct trm_batch *batch, char **text, struct trm_error *err)
{
    struct script script = {.err = err, .status = TRM_OK};

    script.file = open_memstream(&script.text, &script.bytes);
    if (!script.file)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for a batch script");
    add_head(&script, batch);
    add_request(&script, batch);
    add_body(&script, batch);
    bool failed = ferror(script.file) != 0;
    if (fclose(script.file) != 0 || failed)
        script.status = trm_error_set(err, TRM_ERR_MEMORY, "no memory for a batch script");
    if (script.status != TRM_OK) {
        free(script.text);
        return script.status;
    }
    *text = script.text;
    return TRM_OK;
}

/* "12", "1:2", "1:2:3": up to three numbers. Returns how many, or 0. */
static int read_fields(const char *text, long fields[3])
{
    for (int count = 0; count < 3; count++) {
        char *end;
        if (!isdigit((unsigned char)*text))
            return 0;
        fields[count] = strtol(text, &end, 10);
        if (end - text > 6)
            return 0;
        if (!*end)
            return count + 1;
        if (*end != ':')
            return 0;
        text = end + 1;
    }
    return 0;
}

enum trm_status trm_batch_parse_time(const char *text, int64_t *seconds, struct trm_error *err)
{
    const char *dash = strchr(text, '-');
    long fields[3] = {0}, days = 0;
    int count;
    bool understood = true;

    if (strcasecmp(text, "UNLIMITED") == 0 || strcasecmp(text, "INFINITE") == 0) {
        *seconds = -1;
        return TRM_OK;
    }
    if (dash) {
        char *end;
        days = strtol(text, &end, 10);
        understood = isdigit((unsigned char)*text) && end == dash && dash - text <= 4;
    }
    count = read_fields(dash ? dash + 1 : text, fields);
    if (!understood || count == 0)
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "--time \"%s\" is not understood; \"90\" are minutes, and Slurm reads "
                             "M:S, H:M:S, D-H, D-H:M and D-H:M:S besides",
                             text);
    if (dash || count == 3) /* hours lead */
        *seconds = ((days * 24 + fields[0]) * 60 + fields[1]) * 60 + fields[2];
    else
        *seconds = fields[0] * 60 + fields[1];
    return TRM_OK;
}

enum trm_status trm_batch_parse_memory(const char *text, int64_t *bytes, struct trm_error *err)
{
    static const char units[] = "KMGT";
    char *end;
    long long number = strtoll(text, &end, 10);
    const char *unit = *end ? strchr(units, toupper((unsigned char)*end)) : strchr(units, 'M');

    if (!isdigit((unsigned char)*text) || end - text > 9 || !unit || (*end && end[1]))
        return trm_error_set(
            err, TRM_ERR_CONFIG,
            "--mem \"%s\" is not understood; \"64G\" is meant: a number, and K, M, "
            "G or T",
            text);
    *bytes = (int64_t)number << (10 * (unit - units + 1));
    return TRM_OK;
}
