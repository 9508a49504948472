#include "tests/faults/fault.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FIELDS      5
#define FAULT_BYTES 128

static const char *const phases[] = {
    "startup", "comm_init", "load",   "forward",  "grad_exchange", "optimizer", "snapshot",
    "memory",  "save",      "commit", "evaluate", "updated",       "replicas"};

static const struct {
    const char *name;
    bool takes_argument;
} actions[FAULT_ACTION_COUNT] = {
    [FAULT_KILL] = {"kill", false},
    [FAULT_SEGV] = {"segv", false},
    [FAULT_ABORT] = {"abort", false},
    [FAULT_STOP] = {"stop", false},
    [FAULT_KILL_PARENT] = {"kill_parent", false},
    [FAULT_STOP_PARENT] = {"stop_parent", false},
    [FAULT_EXIT] = {"exit", true},
    [FAULT_HANG] = {"hang", false},
    [FAULT_SLOW] = {"slow", true},
    [FAULT_PARK] = {"park", false},
    [FAULT_NAN] = {"nan", false},
    [FAULT_INF] = {"inf", false},
    [FAULT_CORRUPT] = {"corrupt", false},
};

int fault_phase(const char *name)
{
    for (unsigned i = 0; i < sizeof phases / sizeof *phases; i++)
        if (strcmp(phases[i], name) == 0)
            return (int)i;
    return -1;
}

static bool parse_number(const char *text, int64_t *out)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0)
        return false;
    *out = value;
    return true;
}

static bool parse_number_or_any(const char *text, int64_t *out)
{
    if (strcmp(text, "*") != 0)
        return parse_number(text, out);
    *out = FAULT_ANY;
    return true;
}

static bool parse_action(char *text, struct fault *fault)
{
    char *argument = strchr(text, ':');
    if (argument != NULL)
        *argument++ = '\0';
    for (int i = 0; i < FAULT_ACTION_COUNT; i++) {
        if (strcmp(actions[i].name, text) != 0)
            continue;
        fault->action = (enum fault_action)i;
        fault->argument = 0;
        if (!actions[i].takes_argument)
            return argument == NULL;
        return argument != NULL && parse_number(argument, &fault->argument) &&
               (i != FAULT_EXIT || fault->argument <= 255);
    }
    return false;
}

/* One fault, whose text is taken apart in place. */
static enum trm_status parse_fault(char *text, struct fault *fault, struct trm_error *err)
{
    char whole[FAULT_BYTES], *fields[FIELDS], *rest = text;
    int count = 0;

    strcpy(whole, text);
    for (char *field = strsep(&rest, ","); field != NULL; field = strsep(&rest, ",")) {
        if (count < FIELDS)
            fields[count] = field;
        count++;
    }
    if (count != FIELDS)
        return trm_error_set(err, TRM_ERR_INPUT,
                             "fault \"%s\" has %d fields, not rank,step,phase,attempt,action",
                             whole, count);
    if (!parse_number_or_any(fields[0], &fault->rank))
        return trm_error_set(err, TRM_ERR_INPUT, "fault \"%s\": rank is a number or *", whole);
    if (!parse_number_or_any(fields[1], &fault->step))
        return trm_error_set(err, TRM_ERR_INPUT, "fault \"%s\": step is a number or *", whole);
    fault->phase = fault_phase(fields[2]);
    if (fault->phase < 0 && strcmp(fields[2], "*") != 0)
        return trm_error_set(err, TRM_ERR_INPUT, "fault \"%s\": no phase is called \"%s\"", whole,
                             fields[2]);
    if (!parse_number_or_any(fields[3], &fault->attempt))
        return trm_error_set(err, TRM_ERR_INPUT, "fault \"%s\": attempt is a number or *", whole);
    if (!parse_action(fields[4], fault))
        return trm_error_set(err, TRM_ERR_INPUT,
                             "fault \"%s\": no such action; exit:CODE and slow:MS take a number",
                             whole);
    return TRM_OK;
}

enum trm_status faults_parse(const char *text, struct fault faults[FAULTS_MAX], int *count,
                             struct trm_error *err)
{
    int found = 0;

    while (*text != '\0') {
        char one[FAULT_BYTES];
        size_t length = strcspn(text, ";");
        if (length >= sizeof one)
            return trm_error_set(err, TRM_ERR_INPUT, "a fault of %zu characters: \"%.40s...\"",
                                 length, text);
        memcpy(one, text, length);
        one[length] = '\0';
        text += length + (text[length] == ';');
        if (length == 0)
            continue;
        if (found == FAULTS_MAX)
            return trm_error_set(err, TRM_ERR_INPUT, "over %d faults", FAULTS_MAX);
        enum trm_status status = parse_fault(one, &faults[found], err);
        if (status != TRM_OK)
            return status;
        found++;
    }
    *count = found;
    return TRM_OK;
}

bool fault_is_at(const struct fault *fault, int64_t rank, int64_t step, int phase, int64_t attempt)
{
    return (fault->rank == FAULT_ANY || fault->rank == rank) &&
           (fault->step == FAULT_ANY || fault->step == step) &&
           (fault->phase == FAULT_ANY || fault->phase == phase) &&
           (fault->attempt == FAULT_ANY || fault->attempt == attempt);
}
