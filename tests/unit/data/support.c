#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int scratch_setup(void **state)
{
    struct scratch *scratch = calloc(1, sizeof *scratch);
    const char *base = getenv("TMPDIR");
    snprintf(scratch->directory, sizeof scratch->directory, "%s/trireme-data-XXXXXX",
             base ? base : "/tmp");
    *state = scratch;
    return mkdtemp(scratch->directory) ? 0 : -1;
}

int scratch_teardown(void **state)
{
    struct scratch *scratch = *state;
    enum trm_status status = trm_file_remove_tree(scratch->directory, NULL);
    free(scratch);
    return status == TRM_OK ? 0 : -1;
}

const char *scratch_path(const struct scratch *scratch, const char *name, char text[TRM_PATH_BYTES])
{
    assert_int_equal(trm_file_path(text, NULL, "%s/%s", scratch->directory, name), TRM_OK);
    return text;
}

void write_file(const struct scratch *scratch, const char *name, const void *data, size_t bytes)
{
    char path[TRM_PATH_BYTES];
    struct trm_error err = {0};
    if (trm_file_write_all(scratch_path(scratch, name, path), data, bytes, false, &err) != TRM_OK)
        fail_msg("%s", err.text);
}

void write_raw16(const struct scratch *scratch, const char *name, int64_t count,
                 int32_t (*value)(int64_t index))
{
    uint16_t *tokens = calloc((size_t)count, sizeof *tokens);
    for (int64_t i = 0; i < count; i++)
        tokens[i] = (uint16_t)value(i);
    write_file(scratch, name, tokens, (size_t)count * sizeof *tokens);
    free(tokens);
}

int32_t value_index(int64_t index)
{
    return (int32_t)(index & 0xffff);
}

struct trm_dataset_settings plain_settings(const char *const *paths, int count)
{
    return (struct trm_dataset_settings){
        .paths = paths,
        .path_count = count,
        .seq_length = 4,
        .vocab_size = 65536,
        .seed = 1,
        .raw_token_bytes = 2,
        .part_begin = 0,
        .part_end = 1,
        .part = TRM_PART_TRAIN,
    };
}
