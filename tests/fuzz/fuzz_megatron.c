/* A Megatron pair: the first byte is the size of the .bin, whose tokens all fit; the rest is the
 * .idx. */
#include "fuzz.h"

#include <string.h>

#include "scratch.h"
#include "tokens.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[TRM_PATH_BYTES];
    uint8_t tokens[UINT8_MAX];
    if (size == 0)
        return 0;
    for (size_t i = 0; i < sizeof(tokens); i++)
        tokens[i] = i % 2 == 0 ? (uint8_t)i : 0;
    scratch_write("tokens.bin", tokens, data[0]);
    scratch_write("tokens.idx", data + 1, size - 1);
    scratch_path("tokens", path);
    try_tokens(path, 2);
    return 0;
}
