/* Is there a GPU that the CUDA device can use? Prints which, or why not, and exits 0 or 77. */
#include <stdio.h>

#include "trainer/ops/cuda/cuda.h"

int main(void)
{
    struct trm_device dev;
    struct trm_error error = {0};
    char text[256];

    if (trm_device_cuda(&dev, 0, &error) != TRM_OK) {
        printf("%s\n", error.text);
        return 77;
    }
    trm_device_describe(&dev, text, sizeof text);
    printf("%s\n", text);
    trm_device_cuda_close(&dev);
    return 0;
}
