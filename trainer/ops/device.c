/* What all devices share: their words, and the sticky error at the end of their work. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/ops/ops.h"

#define DEVICE_ALIGNMENT 256

void trm_device_describe(const struct trm_device *dev, char *text, size_t text_bytes)
{
    if (dev->ops->describe != NULL)
        dev->ops->describe(dev, text, text_bytes);
    else
        snprintf(text, text_bytes, "%s", dev->ops->name);
}

void trm_device_mark(struct trm_device *dev, const char *name)
{
    if (dev->ops->mark != NULL)
        dev->ops->mark(dev, name);
}

enum trm_status trm_device_sync(struct trm_device *dev, struct trm_error *err)
{
    if (dev->ops->sync != NULL)
        dev->ops->sync(dev);
    return trm_device_check(dev, err);
}

enum trm_status trm_device_check(const struct trm_device *dev, struct trm_error *err)
{
    if (dev->error.status != TRM_OK && err != NULL)
        *err = dev->error;
    return dev->error.status;
}

bool trm_device_is_host(const struct trm_device *dev)
{
    return dev->ops->memory == NULL;
}

static void *allocate_on_host(struct trm_device *dev, size_t bytes)
{
    void *memory = NULL;
    if (posix_memalign(&memory, DEVICE_ALIGNMENT, bytes > 0 ? bytes : 1) == 0)
        return memory;
    if (dev->error.status == TRM_OK)
        trm_error_set(&dev->error, TRM_ERR_MEMORY, "no memory for %zu bytes", bytes);
    return NULL;
}

void *trm_device_allocate(struct trm_device *dev, size_t bytes)
{
    return trm_device_is_host(dev) ? allocate_on_host(dev, bytes)
                                   : dev->ops->memory->allocate(dev, bytes);
}

void trm_device_release(struct trm_device *dev, void *memory)
{
    if (trm_device_is_host(dev))
        free(memory);
    else
        dev->ops->memory->release(dev, memory);
}

void trm_device_upload(struct trm_device *dev, void *to, const void *from, size_t bytes)
{
    if (trm_device_is_host(dev))
        memcpy(to, from, bytes);
    else
        dev->ops->memory->upload(dev, to, from, bytes);
}

void trm_device_download(struct trm_device *dev, void *to, const void *from, size_t bytes)
{
    if (trm_device_is_host(dev))
        memcpy(to, from, bytes);
    else
        dev->ops->memory->download(dev, to, from, bytes);
}

size_t trm_device_available_bytes(struct trm_device *dev)
{
    return trm_device_is_host(dev) ? 0 : dev->ops->memory->available_bytes(dev);
}

void *trm_device_allocate_host(struct trm_device *dev, size_t bytes)
{
    return trm_device_is_host(dev) ? allocate_on_host(dev, bytes)
                                   : dev->ops->memory->allocate_host(dev, bytes);
}

void trm_device_release_host(struct trm_device *dev, void *memory)
{
    if (trm_device_is_host(dev))
        free(memory);
    else
        dev->ops->memory->release_host(dev, memory);
}

void trm_device_fetch_begin(struct trm_device *dev)
{
    if (!trm_device_is_host(dev))
        dev->ops->memory->fetch_begin(dev);
}

void trm_device_fetch(struct trm_device *dev, void *to, const void *from, size_t bytes)
{
    if (trm_device_is_host(dev))
        memcpy(to, from, bytes);
    else
        dev->ops->memory->fetch(dev, to, from, bytes);
}

enum trm_status trm_device_fetch_wait(struct trm_device *dev, struct trm_error *err)
{
    if (!trm_device_is_host(dev))
        dev->ops->memory->fetch_wait(dev);
    return trm_device_check(dev, err);
}
