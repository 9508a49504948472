/* The CUDA device of a build that has no CUDA. */
#include "trainer/ops/cuda/cuda.h"

int trm_cuda_count(struct trm_error *err)
{
    trm_error_set(err, TRM_ERR_UNSUPPORTED, "this build has no CUDA");
    return 0;
}

bool trm_cuda_identify(int number, struct trm_cuda_identity *out)
{
    (void)number;
    (void)out;
    return false;
}

enum trm_status trm_device_cuda(struct trm_device *dev, int number, struct trm_error *err)
{
    (void)dev;
    (void)number;
    return trm_error_set(err, TRM_ERR_UNSUPPORTED,
                         "device is cuda, and this build has no CUDA; use --device cpu");
}

void *trm_cuda_stream(const struct trm_device *dev)
{
    (void)dev;
    return NULL;
}

void trm_cuda_search(struct trm_device *dev, bool on)
{
    (void)dev;
    (void)on;
}

size_t trm_cuda_choices_bytes(void)
{
    return 0;
}

int trm_cuda_choices_count(const struct trm_device *dev)
{
    (void)dev;
    return 0;
}

void trm_cuda_choices_get(const struct trm_device *dev, void *bytes)
{
    (void)dev;
    (void)bytes;
}

bool trm_cuda_choices_set(struct trm_device *dev, const void *bytes)
{
    (void)dev;
    (void)bytes;
    return false;
}

bool trm_cuda_describe(const struct trm_device *dev, enum trm_type type,
                       struct trm_cuda_properties *out)
{
    (void)dev;
    (void)type;
    (void)out;
    return false;
}

void trm_device_cuda_close(struct trm_device *dev)
{
    (void)dev;
}
