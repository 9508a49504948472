/* Raw tokens: the first byte says of how many bytes each, the rest is the file. */
#include "fuzz.h"

#include "scratch.h"
#include "tokens.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[TRM_PATH_BYTES];
    if (size == 0)
        return 0;
    scratch_write("tokens.raw", data + 1, size - 1);
    scratch_path("tokens.raw", path);
    try_tokens(path, data[0] % 2 == 0 ? 2 : 4);
    return 0;
}
