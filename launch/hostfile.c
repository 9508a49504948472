#include "launch/hostfile.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

#define LIMIT_BYTES ((size_t)16 << 20)

struct list {
    struct trm_host *hosts;
    int count, room;
};

bool trm_host_is_name(const char *name)
{
    size_t length = strlen(name);

    if (length == 0 || length >= TRM_HOST_NAME_BYTES || name[0] == '-' || name[0] == '.')
        return false;
    for (size_t i = 0; i < length; i++)
        if (!isalnum((unsigned char)name[i]) && !strchr("-._", name[i]))
            return false;
    return true;
}

static struct trm_host *find(struct list *list, const char *name)
{
    for (int i = 0; i < list->count; i++)
        if (strcmp(list->hosts[i].name, name) == 0)
            return &list->hosts[i];
    return NULL;
}

static enum trm_status add(struct list *list, const struct trm_host *host, struct trm_error *err)
{
    struct trm_host *known = find(list, host->name);

    if (known) {
        known->slots += host->slots;
        if (known->slots > TRM_HOST_MAX_SLOTS)
            return trm_error_set(err, TRM_ERR_CONFIG,
                                 "\"%s\" has %d slots in all, and %d is the most", host->name,
                                 known->slots, TRM_HOST_MAX_SLOTS);
        return TRM_OK;
    }
    if (list->count == TRM_HOST_MAX)
        return trm_error_set(err, TRM_ERR_CONFIG, "more than %d hosts", TRM_HOST_MAX);
    if (list->count == list->room) {
        int room = list->room ? list->room * 2 : 64;
        void *larger = realloc(list->hosts, (size_t)room * sizeof *list->hosts);
        if (!larger)
            return trm_error_set(err, TRM_ERR_MEMORY, "no memory for %d hosts", room);
        list->hosts = larger;
        list->room = room;
    }
    list->hosts[list->count++] = *host;
    return TRM_OK;
}

static enum trm_status read_slots(const char *text, int *slots, struct trm_error *err)
{
    char *end;
    long value = strtol(text, &end, 10);

    if (end == text || *end != '\0' || value < 1 || value > TRM_HOST_MAX_SLOTS)
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "\"%s\" is not a number of slots, which is 1 to %d", text,
                             TRM_HOST_MAX_SLOTS);
    *slots = (int)value;
    return TRM_OK;
}

static enum trm_status read_word(const char *word, struct trm_host *host, struct trm_error *err)
{
    if (strncmp(word, "slots=", 6) == 0)
        return read_slots(word + 6, &host->slots, err);
    if (strncmp(word, "max_slots=", 10) == 0 || strncmp(word, "max-slots=", 10) == 0)
        return TRM_OK;
    if (strncmp(word, "domain=", 7) == 0 && trm_host_is_name(word + 7)) {
        snprintf(host->domain, sizeof host->domain, "%s", word + 7);
        return TRM_OK;
    }
    return trm_error_set(err, TRM_ERR_CONFIG,
                         "\"%s\" is not understood; a line is `NAME [slots=N] [domain=WORD]`",
                         word);
}

/* One line, changed in place. A line without a word gives a host without a name. */
static enum trm_status read_line(char *line, struct trm_host *host, struct trm_error *err)
{
    char *rest = NULL, *name, *colon, *word;
    enum trm_status status = TRM_OK;

    *host = (struct trm_host){.slots = 1};
    line[strcspn(line, "#")] = '\0';
    name = strtok_r(line, " \t\r", &rest);
    if (!name)
        return TRM_OK;
    colon = strchr(name, ':');
    if (colon) {
        *colon = '\0';
        status = read_slots(colon + 1, &host->slots, err);
    }
    if (status == TRM_OK && !trm_host_is_name(name))
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "\"%.40s\" is not the name of a host: letters, digits, '.', '-' and "
                             "'_', up to %d of them",
                             name, TRM_HOST_NAME_BYTES - 1);
    snprintf(host->domain, sizeof host->domain, "%s", name);
    while (status == TRM_OK && (word = strtok_r(NULL, " \t\r", &rest)))
        status = read_word(word, host, err);
    if (status == TRM_OK)
        snprintf(host->name, sizeof host->name, "%s", name);
    return status;
}

static enum trm_status read_lines(const char *path, char *text, struct list *list,
                                  struct trm_error *err)
{
    struct trm_host host;
    int number = 0;
    char *next;

    for (char *line = text; line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        number++;
        enum trm_status status = read_line(line, &host, err);
        if (status == TRM_OK && host.name[0])
            status = add(list, &host, err);
        if (status != TRM_OK)
            return trm_error_prefix(err, "%s:%d", path, number);
    }
    return TRM_OK;
}

static enum trm_status read_file(const char *path, struct list *list, struct trm_error *err)
{
    char *text;
    size_t bytes;
    enum trm_status status = trm_file_read_all(path, LIMIT_BYTES, &text, &bytes, err);

    if (status != TRM_OK)
        return status;
    status =
        strlen(text) == bytes
            ? read_lines(path, text, list, err)
            : trm_error_set(err, TRM_ERR_CONFIG, "%s: holds a zero byte, so it is not text", path);
    free(text);
    return status;
}

enum trm_status trm_hostfile_read(const char *path, struct trm_host **hosts, int *count,
                                  struct trm_error *err)
{
    struct list list = {0};
    enum trm_status status = read_file(path, &list, err);

    if (status == TRM_ERR_NOT_FOUND || status == TRM_ERR_IO || status == TRM_ERR_INPUT)
        status = err ? (err->status = TRM_ERR_CONFIG) : TRM_ERR_CONFIG;
    if (status == TRM_OK && list.count == 0)
        status = trm_error_set(err, TRM_ERR_CONFIG, "%s: names no host", path);
    if (status != TRM_OK) {
        free(list.hosts);
        return status;
    }
    *hosts = list.hosts;
    *count = list.count;
    return TRM_OK;
}

enum trm_status trm_hostfile_read_names(const char *path, struct trm_host **names, int *count,
                                        struct trm_error *err)
{
    struct list list = {0};
    struct trm_error reason = {0};
    enum trm_status status = read_file(path, &list, &reason);

    if (status != TRM_OK && status != TRM_ERR_NOT_FOUND) {
        free(list.hosts);
        return trm_error_set(err, status, "%s", reason.text);
    }
    *names = list.hosts;
    *count = list.count;
    return TRM_OK;
}
