#include "base/machine.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>

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

uint64_t trm_machine_available_bytes(void)
{
    uint64_t available = read_number("/proc/meminfo", "MemAvailable:") * 1024;
    uint64_t limit = read_number("/sys/fs/cgroup/memory.max", "");
    uint64_t used = read_number("/sys/fs/cgroup/memory.current", "");

    if (limit > used && limit - used < available)
        return limit - used;
    return available;
}

int trm_machine_cores(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return 1;
    return CPU_COUNT(&set) > 0 ? CPU_COUNT(&set) : 1;
}
