#include "trainer/alike.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "collectives/agree.h"

/* All ranks must compute alike: compares each rank's description with rank 0's. */
enum trm_status trm_alike_devices(struct trm_run *run, struct trm_error *err)
{
    char mine[256], first[256];
    enum trm_status status;

    trm_device_describe(&run->device, mine, sizeof mine);
    memcpy(first, mine, sizeof first);
    status = trm_comm_broadcast(run->world, first, sizeof first, 0, NULL, err);
    if (status == TRM_OK && strcmp(mine, first) != 0)
        status =
            trm_error_set(err, TRM_ERR_CONFIG,
                          "computes with \"%s\", rank 0 with \"%s\"; all nodes of a run need the "
                          "same instruction set and libraries",
                          mine, first);
    return trm_agree(run->world, status, err);
}

/* All ranks must run the same thing: compares `mine`, a hash of `what`, with rank 0's. */
static enum trm_status compare_hash(struct trm_run *run, uint64_t mine, const char *what,
                                    struct trm_error *err)
{
    uint64_t first = mine;
    enum trm_status status = trm_comm_broadcast(run->world, &first, sizeof first, 0, NULL, err);

    if (status == TRM_OK && mine != first)
        status = trm_error_set(err, TRM_ERR_CONFIG,
                               "%s differ from rank 0's; start all ranks with the same file and "
                               "flags, and with the same data on every node",
                               what);
    return trm_agree(run->world, status, err);
}

enum trm_status trm_alike_configs(struct trm_run *run, struct trm_error *err)
{
    char *yaml = trm_config_to_yaml(run->config);
    enum trm_status status =
        yaml ? TRM_OK : trm_error_set(err, TRM_ERR_MEMORY, "no memory for the configuration");

    status = trm_agree(run->world, status, err);
    if (status == TRM_OK)
        status =
            compare_hash(run, trm_hash64(yaml, strlen(yaml)), "its configuration's values", err);
    free(yaml);
    return status;
}

/* Files by their number of tokens and weights: enough to tell one list of files from another. */
enum trm_status trm_alike_data(struct trm_run *run, struct trm_error *err)
{
    uint64_t hash = (uint64_t)trm_dataset_samples(run->train);

    for (int64_t number = 0; number < 8; number++) {
        struct trm_sample_place place = trm_dataset_place(run->train, number);
        if (trm_dataset_read(run->train, number, run->sample, NULL) == TRM_OK)
            hash = trm_hash64_seeded(run->sample,
                                     (size_t)(run->config->seq_length + 1) * sizeof(int32_t), hash);
        hash = trm_hash_roll(hash, (uint64_t)place.index);
    }
    return compare_hash(run, hash, "its training tokens", err);
}
