#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "trainer/data/order.h"

static struct trm_order one_stream(uint64_t seed, const int64_t *samples)
{
    return (struct trm_order){
        .seed = seed, .purpose = "data train", .stream_count = 1, .samples = samples};
}

static void one_stream_gives_every_sample_once_per_epoch(void **state)
{
    (void)state;
    static const int64_t sizes[] = {1, 2, 3, 17, 1000, 65536, 70001};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int64_t n = sizes[s];
        struct trm_order order = one_stream(7, &n);
        unsigned char *seen = calloc((size_t)n, 1);
        for (int64_t number = 0; number < 3 * n; number++) {
            struct trm_order_place place = trm_order_place(&order, number);
            assert_int_equal(place.stream, 0);
            assert_int_equal(place.epoch, number / n);
            assert_in_range(place.index, 0, n - 1);
            assert_int_equal(seen[place.index], place.epoch);
            seen[place.index]++;
        }
        free(seen);
    }
}

static void epochs_seeds_and_purposes_have_orders_of_their_own(void **state)
{
    (void)state;
    int64_t n = 1000;
    struct trm_order order = one_stream(7, &n), seed = one_stream(8, &n), purpose = order;
    purpose.purpose = "data valid";
    int same_epoch = 0, same_seed = 0, same_purpose = 0, same_as_file = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t index = trm_order_place(&order, i).index;
        same_epoch += index == trm_order_place(&order, n + i).index;
        same_seed += index == trm_order_place(&seed, i).index;
        same_purpose += index == trm_order_place(&purpose, i).index;
        same_as_file += index == i;
    }
    /* One agreement is expected by chance; 20 has a probability below 1e-18. */
    assert_in_range(same_epoch, 0, 20);
    assert_in_range(same_seed, 0, 20);
    assert_in_range(same_purpose, 0, 20);
    assert_in_range(same_as_file, 0, 20);
}

static void quotas_are_the_largest_remainders(void **state)
{
    (void)state;
    static const struct {
        double weights[4];
        int count;
        int32_t quotas[4];
    } cases[] = {
        {{1}, 1, {65536}},
        {{1, 1}, 2, {32768, 32768}},
        {{1, 1, 1}, 3, {21846, 21845, 21845}},
        {{0.2, 0.4, 0.4}, 3, {13107, 26215, 26214}}, /* of 13107.2, 26214.4, 26214.4 */
        {{3, 1}, 2, {49152, 16384}},
        {{1e12, 1e12, 1e12, 1e12}, 4, {16384, 16384, 16384, 16384}},
        {{1, 65535}, 2, {1, 65535}},
        {{0.9, 65535.1}, 2, {1, 65535}},
        {{0.4, 65535.6}, 2, {0, 65536}},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        int32_t quotas[4] = {0};
        trm_order_quotas(cases[c].weights, cases[c].count, quotas);
        assert_memory_equal(quotas, cases[c].quotas, sizeof quotas);
    }
}

static void quotas_add_up_to_a_block_for_any_weights(void **state)
{
    (void)state;
    uint64_t random = 1;
    for (int round = 0; round < 200; round++) {
        double weights[37];
        int32_t quotas[37], sum = 0;
        for (int i = 0; i < 37; i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            weights[i] = (double)(random >> 33) / 3.0 + 1e-9;
        }
        trm_order_quotas(weights, 37, quotas);
        for (int i = 0; i < 37; i++)
            sum += quotas[i];
        assert_int_equal(sum, TRM_ORDER_BLOCK);
    }
}

static const int64_t three_sizes[] = {100, 30000, 5};
static const int32_t three_begins[] = {0, 6554, 65000, 65536};

static struct trm_order three_streams(void)
{
    return (struct trm_order){.seed = 3,
                              .purpose = "data train",
                              .stream_count = 3,
                              .samples = three_sizes,
                              .slot_begin = three_begins};
}

static void each_block_holds_every_stream_exactly_its_quota(void **state)
{
    (void)state;
    struct trm_order order = three_streams();
    for (int64_t block = 0; block < 3; block++) {
        int32_t counts[3] = {0};
        for (int64_t i = 0; i < TRM_ORDER_BLOCK; i++)
            counts[trm_order_place(&order, block * TRM_ORDER_BLOCK + i).stream]++;
        for (int s = 0; s < 3; s++)
            assert_int_equal(counts[s], three_begins[s + 1] - three_begins[s]);
    }
}

static void streams_are_mixed_within_a_block(void **state)
{
    (void)state;
    struct trm_order order = three_streams();
    int first = 0;
    for (int64_t i = 0; i < 6554; i++)
        first += trm_order_place(&order, i).stream == 0;
    /* A tenth of the block holds a tenth of the stream: 655, with a deviation of 23. */
    assert_in_range(first, 500, 800);
}

static void mixed_streams_repeat_no_sample_within_an_epoch(void **state)
{
    (void)state;
    struct trm_order order = three_streams();
    /* [stream][epoch][index]; two blocks: 131 epochs of the first stream, 3.9 of the second. */
    int64_t numbers = 2 * TRM_ORDER_BLOCK;
    int64_t epochs[3] = {132, 4, 215}, lasts[3] = {0};
    unsigned char *seen[3];
    for (int s = 0; s < 3; s++)
        seen[s] = calloc((size_t)(epochs[s] * three_sizes[s]), 1);
    for (int64_t number = 0; number < numbers; number++) {
        struct trm_order_place place = trm_order_place(&order, number);
        assert_in_range(place.index, 0, three_sizes[place.stream] - 1);
        assert_in_range(place.epoch, 0, epochs[place.stream] - 1);
        unsigned char *mark =
            &seen[place.stream][place.epoch * three_sizes[place.stream] + place.index];
        assert_int_equal(*mark, 0);
        *mark = 1;
        lasts[place.stream] = place.epoch > lasts[place.stream] ? place.epoch : lasts[place.stream];
    }
    /* Every epoch but the last is complete. */
    for (int s = 0; s < 3; s++) {
        for (int64_t i = 0; i < lasts[s] * three_sizes[s]; i++)
            assert_int_equal(seen[s][i], 1);
        free(seen[s]);
    }
}

static void a_place_far_ahead_needs_nothing_before_it(void **state)
{
    (void)state;
    struct trm_order order = three_streams();
    int64_t far = INT64_C(1) << 60;
    struct trm_order_place once = trm_order_place(&order, far);
    for (int64_t i = 0; i < 100; i++)
        trm_order_place(&order, far - 1 - i);
    struct trm_order_place again = trm_order_place(&order, far);
    assert_int_equal(once.stream, again.stream);
    assert_int_equal(once.epoch, again.epoch);
    assert_int_equal(once.index, again.index);
    assert_in_range(once.index, 0, three_sizes[once.stream] - 1);
}

/* What a run fixes for life: a change of these numbers would reorder everybody's data. */
static void the_order_is_the_one_of_earlier_versions(void **state)
{
    (void)state;
    struct trm_order order = three_streams();
    static const struct {
        int64_t number;
        struct trm_order_place place;
    } known[] = {
        {INT64_C(0), {1, 1, 10235}},        {INT64_C(1), {1, 0, 8035}},
        {INT64_C(2), {1, 0, 25010}},        {INT64_C(3), {1, 1, 10529}},
        {INT64_C(65535), {1, 0, 9217}},     {INT64_C(65536), {1, 3, 10513}},
        {INT64_C(1000000), {1, 29, 16366}}, {INT64_C(1099511627776), {1, 32685373, 13141}},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        struct trm_order_place place = trm_order_place(&order, known[i].number);
        assert_int_equal(place.stream, known[i].place.stream);
        assert_int_equal(place.epoch, known[i].place.epoch);
        assert_int_equal(place.index, known[i].place.index);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_stream_gives_every_sample_once_per_epoch),
        cmocka_unit_test(epochs_seeds_and_purposes_have_orders_of_their_own),
        cmocka_unit_test(quotas_are_the_largest_remainders),
        cmocka_unit_test(quotas_add_up_to_a_block_for_any_weights),
        cmocka_unit_test(each_block_holds_every_stream_exactly_its_quota),
        cmocka_unit_test(streams_are_mixed_within_a_block),
        cmocka_unit_test(mixed_streams_repeat_no_sample_within_an_epoch),
        cmocka_unit_test(a_place_far_ahead_needs_nothing_before_it),
        cmocka_unit_test(the_order_is_the_one_of_earlier_versions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
