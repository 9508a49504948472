#include "tokens.h"

#include <stddef.h>

#include "base/assert.h"
#include "trainer/data/dataset.h"

#define SEQ_LENGTH 4
#define VOCAB_SIZE 1000

static void read_sample(const struct trm_dataset *dataset, int64_t number)
{
    int32_t tokens[SEQ_LENGTH + 1];
    struct trm_error err = {0};
    if (trm_dataset_read(dataset, number, tokens, &err) != TRM_OK) {
        TRM_ASSERT(err.text[0] != '\0');
        return;
    }
    for (int i = 0; i <= SEQ_LENGTH; i++)
        TRM_ASSERT(tokens[i] >= 0 && tokens[i] < VOCAB_SIZE);
}

void try_tokens(const char *path, int raw_token_bytes)
{
    const struct trm_dataset_settings settings = {
        .paths = &path,
        .path_count = 1,
        .seq_length = SEQ_LENGTH,
        .vocab_size = VOCAB_SIZE,
        .seed = 1,
        .raw_token_bytes = raw_token_bytes,
        .part_begin = 0,
        .part_end = 1,
    };
    struct trm_dataset *dataset = NULL;
    struct trm_error err = {0};
    if (trm_dataset_open(&settings, &dataset, &err) != TRM_OK) {
        TRM_ASSERT(err.text[0] != '\0');
        return;
    }
    int64_t samples = trm_dataset_samples(dataset);
    TRM_ASSERT(samples > 0);
    for (int64_t number = 0; number < 16; number++)
        read_sample(dataset, number);
    read_sample(dataset, samples - 1);
    trm_dataset_close(dataset);
}
