/* A compressed list of nodes and their tasks, on a line each. What comes out are names that a shell
 * reads as nothing else, and as many hosts as the tasks say. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "launch/slurm/slurm_env.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1), *tasks;
    struct trm_host *hosts = NULL;
    struct trm_error err = {0};
    int count = 0;

    TRM_ASSERT(text);
    memcpy(text, data, size);
    text[size] = '\0';
    tasks = strchr(text, '\n');
    if (tasks)
        *tasks++ = '\0';
    if (trm_slurm_hosts(text, tasks ? tasks : "1", &hosts, &count, &err) == TRM_OK) {
        TRM_ASSERT(count >= 1 && count <= TRM_HOST_MAX);
        for (int i = 0; i < count; i++)
            TRM_ASSERT(trm_host_is_name(hosts[i].name) && hosts[i].slots >= 1 &&
                       hosts[i].slots <= TRM_HOST_MAX_SLOTS);
    } else {
        TRM_ASSERT(!hosts && err.status == TRM_ERR_CONFIG && err.text[0] != '\0');
    }
    free(hosts);
    free(text);
    return 0;
}
