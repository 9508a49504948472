#include "trainer/data/order.h"

#include "base/assert.h"
#include "base/random.h"

void trm_order_quotas(const double *weights, int count, int32_t *quotas)
{
    double total = 0;
    for (int i = 0; i < count; i++)
        total += weights[i];
    int32_t left = TRM_ORDER_BLOCK;
    for (int i = 0; i < count; i++) {
        quotas[i] = (int32_t)(weights[i] / total * TRM_ORDER_BLOCK);
        left -= quotas[i];
    }
    TRM_ASSERT(left >= 0 && left <= count);
    /* Quadratic in the number of files, which is small, and done once. A fraction that was served
     * turns negative, so nothing is served twice. */
    for (; left > 0; left--) {
        int best = -1;
        double best_fraction = -1;
        for (int i = 0; i < count; i++) {
            double fraction = weights[i] / total * TRM_ORDER_BLOCK - quotas[i];
            if (fraction > best_fraction) {
                best = i;
                best_fraction = fraction;
            }
        }
        quotas[best]++;
    }
}

static int stream_of_slot(const struct trm_order *order, int32_t slot)
{
    int low = 0, high = order->stream_count - 1;
    while (low < high) {
        int middle = (low + high) / 2;
        if (slot < order->slot_begin[middle + 1])
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

struct trm_order_place trm_order_place(const struct trm_order *order, int64_t number)
{
    TRM_ASSERT(number >= 0 && order->stream_count > 0);
    struct trm_order_place place = {0};
    int64_t ordinal = number; /* how many of its stream's samples come before it */
    if (order->stream_count > 1) {
        int64_t block = number / TRM_ORDER_BLOCK;
        uint64_t deal = trm_random_key(order->seed, order->purpose, UINT64_MAX, (uint64_t)block);
        int32_t slot = (int32_t)trm_random_permute(deal, TRM_ORDER_BLOCK,
                                                   (uint64_t)(number % TRM_ORDER_BLOCK));
        place.stream = stream_of_slot(order, slot);
        int32_t begin = order->slot_begin[place.stream];
        int64_t quota = order->slot_begin[place.stream + 1] - begin;
        ordinal = block * quota + (slot - begin);
    }
    int64_t samples = order->samples[place.stream];
    place.epoch = ordinal / samples;
    uint64_t key =
        trm_random_key(order->seed, order->purpose, (uint64_t)place.stream, (uint64_t)place.epoch);
    place.index =
        (int64_t)trm_random_permute(key, (uint64_t)samples, (uint64_t)(ordinal % samples));
    return place;
}
