#include "trainer/data/reader.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/hash.h"

/* Beyond any run, and far enough from the end of int64 that sums of two positions fit. */
#define NUMBER_MAX (INT64_MAX / 4)

struct slot {
    int32_t *inputs, *targets;
    int64_t next_number;
    uint64_t data_hash;
    enum trm_status status;
    struct trm_error error;
};

struct trm_reader {
    const struct trm_dataset *dataset;
    struct trm_reader_settings settings; /* its pointers are the two arrays below */
    int64_t *offsets;
    struct trm_skip *skips;
    int64_t seq_length;

    /* The thread's own: where it is, and room to work. */
    int64_t number;
    uint64_t data_hash;
    int skip;         /* first one that does not end at or before `number` */
    int64_t *numbers; /* [global_batch] of the batch being read */
    int32_t *sample;  /* [seq_length + 1] */

    /* A ring: [head, head + full) are read; the head is the caller's while `held`. */
    struct slot *slots;
    int slot_count, head, full;
    bool held;
    int32_t *tokens; /* all inputs and targets */

    pthread_mutex_t mutex; /* guards head, full, held */
    pthread_cond_t changed;
    pthread_t thread;
    bool started;
    atomic_bool stop;
};

/* The first number from `number` on that is not skipped. */
static int64_t pass_skips(struct trm_reader *reader, int64_t number)
{
    for (; reader->skip < reader->settings.skip_count; reader->skip++) {
        const struct trm_skip *skip = &reader->skips[reader->skip];
        if (number < skip->first)
            break;
        if (number < skip->first + skip->count)
            number = skip->first + skip->count;
    }
    return number;
}

/* Chooses the numbers of a global batch and rolls the hash over them and their places. */
static void choose_batch(struct trm_reader *reader)
{
    for (int64_t i = 0; i < reader->settings.global_batch; i++) {
        int64_t number = pass_skips(reader, reader->number);
        struct trm_sample_place place = trm_dataset_place(reader->dataset, number);
        uint64_t hash = trm_hash_roll(reader->data_hash, (uint64_t)number);
        hash = trm_hash_roll(hash, (uint64_t)place.file);
        hash = trm_hash_roll(hash, (uint64_t)place.epoch);
        reader->data_hash = trm_hash_roll(hash, (uint64_t)place.index);
        reader->numbers[i] = number;
        reader->number = number + 1;
    }
}

/* This rank's micro-batches of the chosen numbers. Left early when asked to stop. */
static enum trm_status read_batch(struct trm_reader *reader, struct slot *slot)
{
    int64_t seq_length = reader->seq_length, row = 0;
    size_t row_bytes = (size_t)seq_length * sizeof(int32_t);
    for (int m = 0; m < reader->settings.micro_batches; m++) {
        for (int64_t j = 0; j < reader->settings.micro_batch; j++, row++) {
            if (atomic_load_explicit(&reader->stop, memory_order_relaxed))
                return TRM_OK;
            int64_t number = reader->numbers[reader->offsets[m] + j];
            enum trm_status status =
                trm_dataset_read(reader->dataset, number, reader->sample, &slot->error);
            if (status != TRM_OK)
                return status;
            memcpy(slot->inputs + row * seq_length, reader->sample, row_bytes);
            memcpy(slot->targets + row * seq_length, reader->sample + 1, row_bytes);
        }
    }
    return TRM_OK;
}

static void *run_thread(void *context)
{
    struct trm_reader *reader = context;
    enum trm_status status = TRM_OK;
    int tail = 0;
    while (status == TRM_OK) {
        pthread_mutex_lock(&reader->mutex);
        while (reader->full == reader->slot_count && !reader->stop)
            pthread_cond_wait(&reader->changed, &reader->mutex);
        pthread_mutex_unlock(&reader->mutex);
        if (reader->stop)
            return NULL;

        struct slot *slot = &reader->slots[tail];
        choose_batch(reader);
        status = read_batch(reader, slot);
        slot->status = status;
        slot->next_number = reader->number;
        slot->data_hash = reader->data_hash;

        pthread_mutex_lock(&reader->mutex);
        reader->full++;
        pthread_cond_broadcast(&reader->changed);
        pthread_mutex_unlock(&reader->mutex);
        tail = (tail + 1) % reader->slot_count;
    }
    return NULL;
}

static enum trm_status check_settings(const struct trm_reader_settings *settings,
                                      struct trm_error *err)
{
    TRM_ASSERT(settings->global_batch > 0 && settings->depth >= 1);
    TRM_ASSERT(settings->micro_batches >= 0 && settings->micro_batch > 0);
    for (int m = 0; m < settings->micro_batches; m++)
        TRM_ASSERT(settings->offsets[m] >= 0 && settings->micro_batch <= settings->global_batch &&
                   settings->offsets[m] <= settings->global_batch - settings->micro_batch);
    if (settings->next_number < 0 || settings->next_number > NUMBER_MAX)
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "the data position %" PRId64 " is not between 0 and %" PRId64
                             "; load another checkpoint",
                             settings->next_number, NUMBER_MAX);
    int64_t end = 0;
    for (int i = 0; i < settings->skip_count; i++) {
        const struct trm_skip *skip = &settings->skips[i];
        if (skip->first < end || skip->first > NUMBER_MAX || skip->count <= 0 ||
            skip->count > NUMBER_MAX)
            return trm_error_set(err, TRM_ERR_CONFIG,
                                 "range %d of the skip list (first %" PRId64 ", count %" PRId64
                                 ") is empty, out of order or overlaps the one before it; list "
                                 "ascending ranges",
                                 i, skip->first, skip->count);
        end = skip->first + skip->count;
    }
    return TRM_OK;
}

static enum trm_status allocate(struct trm_reader *reader, struct trm_error *err)
{
    const struct trm_reader_settings *settings = &reader->settings;
    size_t batch_tokens, all_tokens, global_batch = (size_t)settings->global_batch;
    reader->slot_count = settings->depth + 1;
    if (__builtin_mul_overflow((size_t)settings->micro_batches, (size_t)settings->micro_batch,
                               &batch_tokens) ||
        __builtin_mul_overflow(batch_tokens, (size_t)reader->seq_length, &batch_tokens) ||
        __builtin_mul_overflow(batch_tokens, 2 * (size_t)reader->slot_count, &all_tokens))
        return trm_error_set(err, TRM_ERR_MEMORY,
                             "%d micro-batches of %" PRId64 " samples of %" PRId64
                             " tokens do not fit into memory; use fewer",
                             settings->micro_batches, settings->micro_batch, reader->seq_length);
    reader->offsets = calloc((size_t)settings->micro_batches + 1, sizeof *reader->offsets);
    reader->skips = calloc((size_t)settings->skip_count + 1, sizeof *reader->skips);
    reader->numbers = calloc(global_batch, sizeof *reader->numbers);
    reader->sample = calloc((size_t)reader->seq_length + 1, sizeof *reader->sample);
    reader->slots = calloc((size_t)reader->slot_count, sizeof *reader->slots);
    reader->tokens = calloc(all_tokens + 1, sizeof *reader->tokens);
    if (!reader->offsets || !reader->skips || !reader->numbers || !reader->sample ||
        !reader->slots || !reader->tokens)
        return trm_error_set(
            err, TRM_ERR_MEMORY,
            "no memory to read %d batches of %zu tokens ahead; lower the batch size",
            settings->depth, batch_tokens);
    for (int i = 0; i < reader->slot_count; i++) {
        reader->slots[i].inputs = reader->tokens + 2 * (size_t)i * batch_tokens;
        reader->slots[i].targets = reader->slots[i].inputs + batch_tokens;
    }
    return TRM_OK;
}

/* With every signal blocked: signals are the main thread's. */
static enum trm_status start_thread(struct trm_reader *reader, struct trm_error *err)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&reader->thread, NULL, run_thread, reader);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error)
        return trm_error_set_errno(err, error, "could not start the data reader's thread");
    reader->started = true;
    return TRM_OK;
}

enum trm_status trm_reader_create(const struct trm_dataset *dataset,
                                  const struct trm_reader_settings *settings,
                                  struct trm_reader **out, struct trm_error *err)
{
    enum trm_status status = check_settings(settings, err);
    if (status != TRM_OK)
        return status;
    struct trm_reader *reader = calloc(1, sizeof *reader);
    if (!reader)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for a data reader");
    pthread_mutex_init(&reader->mutex, NULL);
    pthread_cond_init(&reader->changed, NULL);
    reader->dataset = dataset;
    reader->settings = *settings;
    reader->seq_length = trm_dataset_seq_length(dataset);
    reader->number = settings->next_number;
    reader->data_hash = settings->data_hash;
    if ((status = allocate(reader, err)) != TRM_OK)
        goto fail;
    for (int m = 0; m < settings->micro_batches; m++)
        reader->offsets[m] = settings->offsets[m];
    for (int i = 0; i < settings->skip_count; i++)
        reader->skips[i] = settings->skips[i];
    reader->settings.offsets = reader->offsets;
    reader->settings.skips = reader->skips;
    if ((status = start_thread(reader, err)) != TRM_OK)
        goto fail;
    *out = reader;
    return TRM_OK;
fail:
    trm_reader_destroy(reader);
    return status;
}

void trm_reader_destroy(struct trm_reader *reader)
{
    if (!reader)
        return;
    if (reader->started) {
        pthread_mutex_lock(&reader->mutex);
        reader->stop = true;
        pthread_cond_broadcast(&reader->changed);
        pthread_mutex_unlock(&reader->mutex);
        pthread_join(reader->thread, NULL);
    }
    pthread_cond_destroy(&reader->changed);
    pthread_mutex_destroy(&reader->mutex);
    free(reader->offsets);
    free(reader->skips);
    free(reader->numbers);
    free(reader->sample);
    free(reader->slots);
    free(reader->tokens);
    free(reader);
}

enum trm_status trm_reader_next(struct trm_reader *reader, struct trm_batch *batch,
                                struct trm_error *err)
{
    pthread_mutex_lock(&reader->mutex);
    if (reader->held) {
        reader->held = false;
        reader->head = (reader->head + 1) % reader->slot_count;
        reader->full--;
        pthread_cond_broadcast(&reader->changed);
    }
    while (reader->full == 0)
        pthread_cond_wait(&reader->changed, &reader->mutex);
    const struct slot *slot = &reader->slots[reader->head];
    /* A slot with an error stays at the head: the thread has ended, and each call finds it again.
     */
    reader->held = slot->status == TRM_OK;
    pthread_mutex_unlock(&reader->mutex);
    if (slot->status != TRM_OK)
        return trm_error_set(err, slot->status, "%s", slot->error.text);
    *batch = (struct trm_batch){
        .inputs = slot->inputs,
        .targets = slot->targets,
        .next_number = slot->next_number,
        .data_hash = slot->data_hash,
    };
    return TRM_OK;
}
