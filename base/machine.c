#include "base/machine.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"

/* The number after `key` in a file of "key value" lines, or the first number for an empty key. */
static uint64_t read_number(const char *path, const char *key)
{
    char line[256];
    unsigned long long value = 0;
    size_t length = strlen(key);
    FILE *file = fopen(path, "re");

    if (!file)
        return 0;
    while (fgets(line, sizeof line, file)) {
        if (strncmp(line, key, length) == 0 && sscanf(line + length, "%llu", &value) == 1)
            break;
    }
    fclose(file);
    return value;
}

static uint64_t read_group_number(const char *group, const char *file, const char *key)
{
    char path[TRM_PATH_BYTES];
    if (trm_file_path(path, NULL, "/sys/fs/cgroup%s/%s", group, file) != TRM_OK)
        return 0;
    return read_number(path, key);
}

/* What one control group (version 2) still allows; UINT64_MAX where it sets no limit. File cache
 * counts as used there, but gives way. */
static uint64_t group_allows_bytes(const char *group)
{
    uint64_t limit = read_group_number(group, "memory.max", "");
    if (limit == 0)
        return UINT64_MAX;
    uint64_t used = read_group_number(group, "memory.current", "");
    uint64_t cache = read_group_number(group, "memory.stat", "inactive_file ") +
                     read_group_number(group, "memory.stat", "active_file ");
    used = used > cache ? used - cache : 0;
    return limit > used ? limit - used : 1;
}

/* "/slurm/job_7" of this process's control group; "" for the root or where there is none. */
static void find_group(char group[TRM_PATH_BYTES])
{
    char line[TRM_PATH_BYTES + 8];
    FILE *file = fopen("/proc/self/cgroup", "re");
    group[0] = '\0';
    if (!file)
        return;
    while (fgets(line, sizeof line, file))
        if (strncmp(line, "0::/", 4) == 0)
            snprintf(group, TRM_PATH_BYTES, "%.*s", (int)strcspn(line + 3, "\n"), line + 3);
    fclose(file);
}

uint64_t trm_machine_available_bytes(void)
{
    uint64_t available = read_number("/proc/meminfo", "MemAvailable:") * 1024;
    char group[TRM_PATH_BYTES];
    find_group(group);
    /* A limit may sit on the group itself or on any around it: a batch job's, a container's. */
    for (;;) {
        uint64_t allowed = group_allows_bytes(group);
        if (allowed < available)
            available = allowed;
        char *slash = strrchr(group, '/');
        if (!slash)
            return available;
        *slash = '\0';
    }
}

int trm_machine_cores(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return 1;
    return CPU_COUNT(&set) > 0 ? CPU_COUNT(&set) : 1;
}

uint64_t trm_machine_id(void)
{
    char name[256] = "", boot[64] = "";
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");

    if (file) {
        if (!fgets(boot, sizeof boot, file))
            boot[0] = '\0';
        fclose(file);
    }
    gethostname(name, sizeof name - 1);
    return trm_hash64_seeded(name, strlen(name), trm_hash64(boot, strlen(boot)));
}
