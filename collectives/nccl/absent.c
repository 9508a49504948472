/* The NCCL backend of a build without CUDA. */
#include <stdio.h>

#include "collectives/nccl/nccl.h"

enum trm_status trm_nccl_start(struct trm_comm *host, const struct trm_nccl_settings *settings,
                               struct trm_comm **world, struct trm_error *err)
{
    (void)host;
    (void)settings;
    (void)world;
    return trm_error_set(err, TRM_ERR_UNSUPPORTED,
                         "this build has no NCCL: build it where CUDA and NCCL are installed");
}

void trm_nccl_version(char *text, size_t text_bytes)
{
    snprintf(text, text_bytes, "no NCCL");
}
