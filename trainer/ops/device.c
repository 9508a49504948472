/* What all devices share: their words, and the sticky error at the end of their work. */
#include <stdio.h>

#include "trainer/ops/ops.h"

void trm_device_describe(const struct trm_device *dev, char *text, size_t text_bytes)
{
    if (dev->ops->describe != NULL)
        dev->ops->describe(dev, text, text_bytes);
    else
        snprintf(text, text_bytes, "%s", dev->ops->name);
}

enum trm_status trm_device_sync(struct trm_device *dev, struct trm_error *err)
{
    if (dev->ops->sync != NULL)
        dev->ops->sync(dev);
    if (dev->error.status != TRM_OK && err != NULL)
        *err = dev->error;
    return dev->error.status;
}
