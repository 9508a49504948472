#include "trainer/data/dataset.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/assert.h"
#include "trainer/data/mixture.h"
#include "trainer/data/order.h"
#include "trainer/data/tokens.h"

#define SCANNED_TOKENS 65536 /* from each end, at open */

struct file {
    struct trm_tokens tokens;
    int64_t begin, samples; /* the part's windows */
};

struct trm_dataset {
    int file_count;
    struct file *files;
    int64_t *first_sample; /* [file_count + 1] running sums of the files' samples */
    int64_t *stream_samples;
    int32_t *slot_begin;
    struct trm_order order;
    bool weighted;
    int64_t seq_length, vocab_size;
};

/* The same fraction gives the same cut, so parts that share it are disjoint. */
static int64_t cut(int64_t samples, double fraction)
{
    if (fraction >= 1)
        return samples;
    return (int64_t)((double)samples * fraction);
}

static enum trm_status open_file(const struct trm_dataset_settings *settings, const char *path,
                                 struct file *file, struct trm_error *err)
{
    enum trm_status status = trm_tokens_open(path, settings->raw_token_bytes, &file->tokens, err);
    if (status != TRM_OK)
        return status;
    const struct trm_tokens *tokens = &file->tokens;
    int64_t samples = (tokens->count - 1) / settings->seq_length;
    if (samples == 0)
        return trm_error_set(err, TRM_ERR_INPUT,
                             "token file \"%s\" holds %" PRId64 " tokens, fewer than the %" PRId64
                             " of one sample (seq_length + 1); use a longer file or a smaller "
                             "seq_length",
                             tokens->path, tokens->count, settings->seq_length + 1);
    file->begin = cut(samples, settings->part_begin);
    file->samples = cut(samples, settings->part_end) - file->begin;
    int64_t tail = tokens->count > SCANNED_TOKENS ? tokens->count - SCANNED_TOKENS : 0;
    status = trm_tokens_check(tokens, 0, SCANNED_TOKENS, settings->vocab_size, err);
    if (status == TRM_OK)
        status = trm_tokens_check(tokens, tail, SCANNED_TOKENS, settings->vocab_size, err);
    return status;
}

static enum trm_status refuse_empty_part(const struct trm_dataset_settings *settings,
                                         const struct file *file, struct trm_error *err)
{
    return trm_error_set(err, TRM_ERR_INPUT,
                         "token file \"%s\" holds %" PRId64 " samples of %" PRId64
                         " tokens, none of them in its %s part [%g, %g); use a longer file or "
                         "another split",
                         file->tokens.path, (file->tokens.count - 1) / settings->seq_length,
                         settings->seq_length,
                         settings->part == TRM_PART_TRAIN ? "training" : "validation",
                         settings->part_begin, settings->part_end);
}

static enum trm_status open_files(struct trm_dataset *dataset,
                                  const struct trm_dataset_settings *settings,
                                  const struct trm_mixture_item *items, struct trm_error *err)
{
    for (int i = 0; i < dataset->file_count; i++) {
        struct file *file = &dataset->files[i];
        enum trm_status status = open_file(settings, items[i].path, file, err);
        if (status != TRM_OK)
            return status;
        if (dataset->weighted && file->samples == 0)
            return refuse_empty_part(settings, file, err);
        dataset->first_sample[i + 1] = dataset->first_sample[i] + file->samples;
        dataset->stream_samples[i] = file->samples;
    }
    /* A short file among others may have no share in a part; all of them may not. */
    if (dataset->first_sample[dataset->file_count] == 0)
        return refuse_empty_part(settings, &dataset->files[0], err);
    return TRM_OK;
}

static enum trm_status allocate(struct trm_dataset *dataset, int count, struct trm_error *err)
{
    size_t n = (size_t)count;
    dataset->files = calloc(n, sizeof *dataset->files);
    dataset->first_sample = calloc(n + 1, sizeof *dataset->first_sample);
    dataset->stream_samples = calloc(n, sizeof *dataset->stream_samples);
    dataset->slot_begin = calloc(n + 1, sizeof *dataset->slot_begin);
    if (!dataset->files || !dataset->first_sample || !dataset->stream_samples ||
        !dataset->slot_begin)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for a list of %d token files", count);
    dataset->file_count = count;
    return TRM_OK;
}

enum trm_status trm_dataset_open(const struct trm_dataset_settings *settings,
                                 struct trm_dataset **out, struct trm_error *err)
{
    TRM_ASSERT(settings->seq_length > 0);
    TRM_ASSERT(settings->part_begin >= 0 && settings->part_begin <= settings->part_end);
    enum trm_status status;
    int count = settings->path_count;
    struct trm_mixture_item *items = calloc(count > 0 ? (size_t)count : 1, sizeof *items);
    struct trm_dataset *dataset = calloc(1, sizeof *dataset);
    if (!items || !dataset) {
        status =
            trm_error_set(err, TRM_ERR_MEMORY, "no memory for a list of %d token files", count);
        goto done;
    }
    if ((status = trm_mixture_parse(settings->paths, count, items, err)) != TRM_OK)
        goto done;
    dataset->weighted = items[0].weight > 0;
    dataset->seq_length = settings->seq_length;
    dataset->vocab_size = settings->vocab_size;
    if ((status = allocate(dataset, count, err)) != TRM_OK)
        goto done;
    if (dataset->weighted &&
        (status = trm_mixture_deal(items, count, dataset->slot_begin, err)) != TRM_OK)
        goto done;
    if ((status = open_files(dataset, settings, items, err)) != TRM_OK)
        goto done;
    if (!dataset->weighted)
        dataset->stream_samples[0] = dataset->first_sample[count];
    dataset->order = (struct trm_order){
        .seed = settings->seed,
        .purpose = settings->part == TRM_PART_TRAIN ? "data train" : "data valid",
        .stream_count = dataset->weighted ? count : 1,
        .samples = dataset->stream_samples,
        .slot_begin = dataset->slot_begin,
    };
    *out = dataset;
    dataset = NULL;
done:
    free(items);
    trm_dataset_close(dataset);
    return status;
}

void trm_dataset_close(struct trm_dataset *dataset)
{
    if (!dataset)
        return;
    for (int i = 0; i < dataset->file_count; i++)
        trm_tokens_close(&dataset->files[i].tokens);
    free(dataset->files);
    free(dataset->first_sample);
    free(dataset->stream_samples);
    free(dataset->slot_begin);
    free(dataset);
}

int64_t trm_dataset_samples(const struct trm_dataset *dataset)
{
    return dataset->first_sample[dataset->file_count];
}

int64_t trm_dataset_seq_length(const struct trm_dataset *dataset)
{
    return dataset->seq_length;
}

int trm_dataset_file_count(const struct trm_dataset *dataset)
{
    return dataset->file_count;
}

struct trm_dataset_file trm_dataset_file(const struct trm_dataset *dataset, int file)
{
    TRM_ASSERT(file >= 0 && file < dataset->file_count);
    const struct file *f = &dataset->files[file];
    double share = (double)f->samples / (double)trm_dataset_samples(dataset);
    if (dataset->weighted)
        share =
            (dataset->slot_begin[file + 1] - dataset->slot_begin[file]) / (double)TRM_ORDER_BLOCK;
    return (struct trm_dataset_file){
        .path = f->tokens.path,
        .format = trm_tokens_format_name(f->tokens.format),
        .tokens = f->tokens.count,
        .samples = f->samples,
        .share = share,
    };
}

/* The last file whose first sample is not behind `sample`, empty ones passed over. */
static int file_of_sample(const struct trm_dataset *dataset, int64_t sample)
{
    int low = 0, high = dataset->file_count - 1;
    while (low < high) {
        int middle = (low + high) / 2;
        if (sample < dataset->first_sample[middle + 1])
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

struct trm_sample_place trm_dataset_place(const struct trm_dataset *dataset, int64_t number)
{
    struct trm_order_place place = trm_order_place(&dataset->order, number);
    int file = place.stream;
    if (!dataset->weighted) {
        file = file_of_sample(dataset, place.index);
        place.index -= dataset->first_sample[file];
    }
    return (struct trm_sample_place){
        .file = file,
        .epoch = place.epoch,
        .index = dataset->files[file].begin + place.index,
    };
}

enum trm_status trm_dataset_read(const struct trm_dataset *dataset, int64_t number, int32_t *tokens,
                                 struct trm_error *err)
{
    struct trm_sample_place place = trm_dataset_place(dataset, number);
    return trm_tokens_read(&dataset->files[place.file].tokens, place.index * dataset->seq_length,
                           dataset->seq_length + 1, dataset->vocab_size, tokens, err);
}
