/* An llm.c token file, and what is none: then it is raw tokens of two bytes. */
#include "fuzz.h"

#include "scratch.h"
#include "tokens.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[TRM_PATH_BYTES];
    scratch_write("tokens.bin", data, size);
    scratch_path("tokens.bin", path);
    try_tokens(path, 2);
    return 0;
}
