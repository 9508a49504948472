/*
 * trireme-train over data of which some samples are bad: a batch that holds one has a loss of NaN,
 * or one that is far too high, whenever and on however many ranks it is trained on. A fault of a
 * machine strikes once (tests/faults); this one comes back.
 *
 *   BAD_SAMPLES="40 97"    sample numbers
 *   BAD_LOSS="nan"         what the last rank's part of the loss is off by; a number or nan
 *   BAD_STOP="yes"         and that rank is asked to stop at the first of them
 *
 * Linked with --wrap of the three functions below.
 */
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "trainer/data/reader.h"
#include "trainer/model/model.h"

static struct {
    int64_t numbers[64]; /* [count] of samples that are bad and not on the skip list */
    int count;
    int64_t position; /* of the next batch */
    bool bad;         /* the batch at hand holds a bad sample, and its loss is still to be spoilt */
} seen;

__typeof__(trm_reader_create) __real_trm_reader_create, __wrap_trm_reader_create;
__typeof__(trm_reader_next) __real_trm_reader_next, __wrap_trm_reader_next;
__typeof__(trm_model_forward_backward) __real_trm_model_forward_backward,
    __wrap_trm_model_forward_backward;

/* Of tests/fake/device.h, where the trainer runs on it: what was queued before is done. */
void fake_drain(void) __attribute__((weak));

static bool is_last_rank(void)
{
    const char *rank = getenv("OMPI_COMM_WORLD_RANK"), *size = getenv("OMPI_COMM_WORLD_SIZE");
    return !rank || !size || atoi(rank) == atoi(size) - 1;
}

/* Numbers that are skipped are in no batch. */
static bool is_skipped(const struct trm_reader_settings *settings, int64_t number)
{
    for (int i = 0; i < settings->skip_count; i++)
        if (number >= settings->skips[i].first &&
            number < settings->skips[i].first + settings->skips[i].count)
            return true;
    return false;
}

enum trm_status __wrap_trm_reader_create(const struct trm_dataset *dataset,
                                         const struct trm_reader_settings *settings,
                                         struct trm_reader **out, struct trm_error *err)
{
    char *list = getenv("BAD_SAMPLES");

    seen.count = 0;
    for (char *end = list; list && *list != '\0' && seen.count < 64; list = end) {
        int64_t number = strtoll(list, &end, 10);
        if (!is_skipped(settings, number))
            seen.numbers[seen.count++] = number;
    }
    seen.position = settings->next_number;
    return __real_trm_reader_create(dataset, settings, out, err);
}

enum trm_status __wrap_trm_reader_next(struct trm_reader *reader, struct trm_batch *batch,
                                       struct trm_error *err)
{
    enum trm_status status = __real_trm_reader_next(reader, batch, err);

    seen.bad = false;
    for (int i = 0; status == TRM_OK && i < seen.count; i++)
        seen.bad =
            seen.bad || (seen.numbers[i] >= seen.position && seen.numbers[i] < batch->next_number);
    if (status == TRM_OK)
        seen.position = batch->next_number;
    return status;
}

enum trm_status __wrap_trm_model_forward_backward(struct trm_model *model, const int32_t *inputs,
                                                  const int32_t *targets, void *gradients,
                                                  bool accumulate,
                                                  const struct trm_model_hooks *hooks,
                                                  struct trm_exact_sum *loss, struct trm_error *err)
{
    const char *off = getenv("BAD_LOSS");

    if (seen.bad && is_last_rank() && off) {
        if (fake_drain)
            fake_drain();
        trm_exact_sum_add(loss, atof(off));
        if (getenv("BAD_STOP"))
            kill(getpid(), SIGUSR1);
    }
    seen.bad = false;
    return __real_trm_model_forward_backward(model, inputs, targets, gradients, accumulate, hooks,
                                             loss, err);
}
