#include "tools/run_config.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum trm_status trm_run_read_number(const char *flag, const char *text, int least, int *out,
                                    struct trm_error *err)
{
    char *end;
    long value = strtol(text, &end, 10);

    if (end == text || *end || value < least || value > 1000000)
        return trm_error_set(err, TRM_ERR_CONFIG, "%s \"%s\" is not a number of at least %d", flag,
                             text, least);
    *out = (int)value;
    return TRM_OK;
}

static enum trm_status check_recovery(const struct trm_config *config, struct trm_error *err)
{
    if (config->lease_ms < 3 * config->heartbeat_interval_ms)
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "lease_ms %lld is less than three times heartbeat_interval_ms %lld; "
                             "lease_ms %lld would fit",
                             (long long)config->lease_ms, (long long)config->heartbeat_interval_ms,
                             (long long)(3 * config->heartbeat_interval_ms));
    if (config->data_parallel_size > 0 && config->min_data_parallel_size > 0)
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "data_parallel_size %lld is fixed, and min_data_parallel_size %lld "
                             "allows less; leave data_parallel_size out",
                             (long long)config->data_parallel_size,
                             (long long)config->min_data_parallel_size);
    return TRM_OK;
}

static int count_ranks(const struct trm_config *config, int slots)
{
    if (config->data_parallel_size == 0)
        return slots;
    return (int)(config->data_parallel_size * config->tensor_model_parallel_size);
}

enum trm_status trm_run_config_read(char *const *arguments, int argument_count, int slots,
                                    struct trm_config **out, int *ranks, struct trm_error *err)
{
    struct trm_config *config = NULL;
    enum trm_status status = trm_config_create(&config, err);

    if (status == TRM_OK)
        status = trm_config_load_file(config, arguments[0], err);
    if (status == TRM_OK)
        status = trm_config_load_arguments(config, argument_count - 1,
                                           (char **)(uintptr_t)(arguments + 1), err);
    if (status == TRM_OK)
        status = trm_config_check(config, count_ranks(config, slots), err);
    if (status == TRM_OK)
        status = check_recovery(config, err);
    if (status != TRM_OK) {
        trm_config_destroy(config);
        return status;
    }
    *ranks = count_ranks(config, slots);
    *out = config;
    return TRM_OK;
}

enum trm_status trm_run_find_program(char program[TRM_PATH_BYTES], struct trm_error *err)
{
    ssize_t length = readlink("/proc/self/exe", program, TRM_PATH_BYTES - 1);

    if (length < 0)
        return trm_error_set_errno(err, errno, "could not find this program's path");
    program[length] = '\0';
    return TRM_OK;
}
