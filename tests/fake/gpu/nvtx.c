/* Each range that opens is a line of the file that TRIREME_FAKE_NVTX names; ranges lie one in the
 * other, and what is closed must have been opened. */
#include <nvtx3/nvToolsExt.h>
#include <stdio.h>
#include <stdlib.h>

static int depth;

int nvtxRangePushA(const char *name)
{
    const char *path = getenv("TRIREME_FAKE_NVTX");
    FILE *file = path != NULL ? fopen(path, "a") : NULL;
    if (file != NULL) {
        fprintf(file, "%d %s\n", depth, name);
        fclose(file);
    }
    return depth++;
}

int nvtxRangePop(void)
{
    if (depth == 0)
        abort();
    return --depth;
}
