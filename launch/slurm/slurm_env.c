#include "launch/slurm/slurm_env.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DIGITS 9 /* of a number in brackets */
#define MAX_GROUPS 4 /* of brackets in a name */

struct list {
    struct trm_host *hosts;
    int count, room;
};

/* One element of a list, `rack[1-2]n[01-04]`, as far as it was expanded. */
struct element {
    const char *text;
    char name[TRM_HOST_NAME_BYTES];
    struct list *list;
    struct trm_error *err;
};

/* "01-04" or "7": numbers of one width. */
struct range {
    long first, last;
    int width;
};

static enum trm_status refuse(const struct element *element, const char *why)
{
    return trm_error_set(element->err, TRM_ERR_CONFIG,
                         "the list of nodes is not understood at \"%.60s\": %s", element->text,
                         why);
}

static enum trm_status add(struct element *element)
{
    struct list *list = element->list;

    if (!trm_host_is_name(element->name))
        return refuse(element, "that is not the name of a host");
    if (list->count == TRM_HOST_MAX)
        return trm_error_set(element->err, TRM_ERR_CONFIG, "more than %d nodes", TRM_HOST_MAX);
    if (list->count == list->room) {
        int room = list->room ? list->room * 2 : 16;
        void *larger = realloc(list->hosts, (size_t)room * sizeof *list->hosts);
        if (!larger)
            return trm_error_set(element->err, TRM_ERR_MEMORY, "no memory for %d nodes", room);
        list->hosts = larger;
        list->room = room;
    }
    struct trm_host *host = &list->hosts[list->count++];
    *host = (struct trm_host){.slots = 1};
    snprintf(host->name, sizeof host->name, "%s", element->name);
    snprintf(host->domain, sizeof host->domain, "%s", element->name);
    return TRM_OK;
}

/* Reads a number; *width is that of its digits. */
static bool read_number(const char **at, long *number, int *width)
{
    const char *begin = *at;

    *number = 0;
    while (isdigit((unsigned char)**at) && *at - begin <= MAX_DIGITS)
        *number = *number * 10 + (*(*at)++ - '0');
    *width = (int)(*at - begin);
    return *width > 0 && *width <= MAX_DIGITS;
}

static bool read_range(const char **at, struct range *range)
{
    int width;

    if (!read_number(at, &range->first, &range->width))
        return false;
    range->last = range->first;
    if (**at != '-')
        return true;
    (*at)++;
    return read_number(at, &range->last, &width) && range->last >= range->first;
}

static enum trm_status expand(struct element *element, const char *at, size_t length, int groups);

/* `at` stands behind a '['; the part of the name before it is in element->name. */
static enum trm_status expand_ranges(struct element *element, const char *at, size_t length,
                                     int groups)
{
    const char *end = strchr(at, ']');
    enum trm_status status = TRM_OK;

    if (groups == MAX_GROUPS)
        return refuse(element, "it has too many brackets");
    if (!end)
        return refuse(element, "a bracket is not closed");
    for (;;) {
        struct range range;
        if (!read_range(&at, &range) || (*at != ',' && *at != ']'))
            return refuse(element, "brackets hold numbers and ranges, as in [1-3,007]");
        for (long number = range.first; number <= range.last && status == TRM_OK; number++) {
            int digits = snprintf(element->name + length, sizeof element->name - length, "%0*ld",
                                  range.width, number);
            if (length + (size_t)digits >= sizeof element->name)
                return refuse(element, "a name is too long");
            status = expand(element, end + 1, length + (size_t)digits, groups + 1);
        }
        if (status != TRM_OK || *at == ']')
            return status;
        at++;
    }
}

/* Appends what follows at `at` to the name, up to the element's end, and adds every name. */
static enum trm_status expand(struct element *element, const char *at, size_t length, int groups)
{
    while (*at && *at != ',' && *at != '[') {
        if (length + 1 >= sizeof element->name)
            return refuse(element, "a name is too long");
        element->name[length++] = *at++;
    }
    element->name[length] = '\0';
    return *at == '[' ? expand_ranges(element, at + 1, length, groups) : add(element);
}

static const char *end_of_element(const char *text)
{
    bool inside = false;

    while (*text && (inside || *text != ',')) {
        inside = *text == '[' || (inside && *text != ']');
        text++;
    }
    return text;
}

/* "2(x3),1" */
static enum trm_status read_tasks(const char *tasks, struct list *list, struct trm_error *err)
{
    const char *at = tasks;
    int node = 0;

    for (;;) {
        long slots, repeats = 1;
        int width;
        bool understood = read_number(&at, &slots, &width) && slots >= 1;
        if (understood && strncmp(at, "(x", 2) == 0) {
            at += 2;
            understood = read_number(&at, &repeats, &width) && repeats >= 1 && *at++ == ')';
        }
        if (!understood || slots > TRM_HOST_MAX_SLOTS || (*at && *at != ','))
            return trm_error_set(err, TRM_ERR_CONFIG,
                                 "the tasks per node, \"%.60s\", are not understood: `2(x3),1` is "
                                 "meant, and at most %d of them",
                                 tasks, TRM_HOST_MAX_SLOTS);
        if (repeats > list->count - node)
            break; /* more than there are nodes */
        while (repeats-- > 0)
            list->hosts[node++].slots = (int)slots;
        if (!*at && node == list->count)
            return TRM_OK;
        if (!*at)
            break;
        at++;
    }
    return trm_error_set(err, TRM_ERR_CONFIG,
                         "the tasks per node, \"%.60s\", are not for the %d nodes of the list",
                         tasks, list->count);
}

enum trm_status trm_slurm_hosts(const char *node_list, const char *tasks, struct trm_host **hosts,
                                int *count, struct trm_error *err)
{
    struct list list = {0};
    enum trm_status status = TRM_OK;

    for (const char *at = node_list; status == TRM_OK;) {
        struct element element = {.text = at, .list = &list, .err = err};
        status = expand(&element, at, 0, 0);
        at = end_of_element(at);
        if (*at++ != ',')
            break;
    }
    if (status == TRM_OK)
        status = read_tasks(tasks, &list, err);
    if (status != TRM_OK) {
        free(list.hosts);
        return status;
    }
    *hosts = list.hosts;
    *count = list.count;
    return TRM_OK;
}

bool trm_slurm_is_inside(void)
{
    return getenv("SLURM_JOB_ID") && getenv("SLURM_JOB_NODELIST");
}

static enum trm_status read_variable(const char *name, const char **value, struct trm_error *err)
{
    *value = getenv(name);
    if (!*value || !**value)
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "%s is not set, as it is in a job that sbatch or salloc made", name);
    return TRM_OK;
}

/* Ids are numbers, and end in command lines. */
static enum trm_status read_id(const char *name, char id[TRM_SLURM_ID_BYTES], struct trm_error *err)
{
    const char *value;
    enum trm_status status = read_variable(name, &value, err);

    if (status != TRM_OK)
        return status;
    if (strspn(value, "0123456789") != strlen(value) || strlen(value) >= TRM_SLURM_ID_BYTES)
        return trm_error_set(err, TRM_ERR_CONFIG, "%s is \"%.40s\", not the number of a job", name,
                             value);
    snprintf(id, TRM_SLURM_ID_BYTES, "%s", value);
    return TRM_OK;
}

enum trm_status trm_slurm_job_read(struct trm_slurm_job *job, struct trm_error *err)
{
    struct trm_slurm_job read = {0};
    const char *nodes, *tasks, *restarts = getenv("SLURM_RESTART_COUNT");
    bool in_array = getenv("SLURM_ARRAY_JOB_ID") != NULL;
    enum trm_status status = read_id("SLURM_JOB_ID", read.id, err);

    if (status == TRM_OK)
        status = read_id(in_array ? "SLURM_ARRAY_JOB_ID" : "SLURM_JOB_ID", read.chain, err);
    if (status == TRM_OK)
        status = read_variable("SLURM_JOB_NODELIST", &nodes, err);
    if (status == TRM_OK)
        status = read_variable("SLURM_TASKS_PER_NODE", &tasks, err);
    if (status == TRM_OK)
        status = trm_slurm_hosts(nodes, tasks, &read.hosts, &read.host_count, err);
    if (status != TRM_OK)
        return status;
    read.restarts = restarts ? (int)strtol(restarts, NULL, 10) : 0;
    *job = read;
    return TRM_OK;
}

void trm_slurm_job_destroy(struct trm_slurm_job *job)
{
    if (!job)
        return;
    free(job->hosts);
    *job = (struct trm_slurm_job){0};
}
