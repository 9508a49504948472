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

/* The two versions of control groups: a machine may have either for memory. File cache counts as
 * used there, but gives way. */
struct hierarchy {
    const char *mount, *line; /* what stands before a process's group in /proc/self/cgroup */
    const char *limit, *used, *inactive_cache, *active_cache;
};

static const struct hierarchy hierarchies[] = {
    {"/sys/fs/cgroup", "::", "memory.max", "memory.current", "inactive_file ", "active_file "},
    {"/sys/fs/cgroup/memory", ":memory:", "memory.limit_in_bytes", "memory.usage_in_bytes",
     "total_inactive_file ", "total_active_file "},
};

#define UNLIMITED (UINT64_C(1) << 62) /* version 1 has no word for it */

static uint64_t read_group_number(const struct hierarchy *tree, const char *group, const char *file,
                                  const char *key)
{
    char path[TRM_PATH_BYTES];
    if (trm_file_path(path, NULL, "%s%s/%s", tree->mount, group, file) != TRM_OK)
        return 0;
    return read_number(path, key);
}

/* What one control group still allows; UINT64_MAX where it sets no limit. */
static uint64_t group_allows_bytes(const struct hierarchy *tree, const char *group)
{
    uint64_t limit = read_group_number(tree, group, tree->limit, "");
    if (limit == 0 || limit >= UNLIMITED)
        return UINT64_MAX;
    uint64_t used = read_group_number(tree, group, tree->used, "");
    uint64_t cache = read_group_number(tree, group, "memory.stat", tree->inactive_cache) +
                     read_group_number(tree, group, "memory.stat", tree->active_cache);
    used = used > cache ? used - cache : 0;
    return limit > used ? limit - used : 1;
}

/* "/slurm/job_7" of this process's control group; "" for the root or where there is none. */
static void find_group(const struct hierarchy *tree, char group[TRM_PATH_BYTES])
{
    char line[TRM_PATH_BYTES + 8];
    FILE *file = fopen("/proc/self/cgroup", "re");
    group[0] = '\0';
    if (!file)
        return;
    while (fgets(line, sizeof line, file)) {
        const char *at = line + strspn(line, "0123456789");
        size_t length = strlen(tree->line);
        if (strncmp(at, tree->line, length) == 0 && at[length] == '/' && at[length + 1] != '\n')
            snprintf(group, TRM_PATH_BYTES, "%.*s", (int)strcspn(at + length, "\n"), at + length);
    }
    fclose(file);
}

/* A limit may sit on the group itself or on any around it: a batch job's, a container's. */
static uint64_t groups_allow_bytes(const struct hierarchy *tree)
{
    char group[TRM_PATH_BYTES];
    uint64_t least = UINT64_MAX;
    find_group(tree, group);
    for (;;) {
        uint64_t allowed = group_allows_bytes(tree, group);
        if (allowed < least)
            least = allowed;
        char *slash = strrchr(group, '/');
        if (!slash)
            return least;
        *slash = '\0';
    }
}

uint64_t trm_machine_available_bytes(void)
{
    uint64_t available = read_number("/proc/meminfo", "MemAvailable:") * 1024;
    for (size_t i = 0; i < sizeof hierarchies / sizeof *hierarchies; i++) {
        uint64_t allowed = groups_allow_bytes(&hierarchies[i]);
        if (allowed < available)
            available = allowed;
    }
    return available;
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
