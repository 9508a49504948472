/* Learning rates by step, and the clip factor. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "trainer/optimizer/optimizer.h"
#include "trainer/optimizer/schedule.h"

static const struct {
    enum trm_decay_style style;
    int64_t step;
    double expected;
} cases[] = {
    {TRM_DECAY_COSINE, 1, 0.1},      {TRM_DECAY_COSINE, 10, 1.0},   {TRM_DECAY_COSINE, 60, 0.55},
    {TRM_DECAY_COSINE, 110, 0.1},    {TRM_DECAY_COSINE, 1000, 0.1}, {TRM_DECAY_LINEAR, 60, 0.55},
    {TRM_DECAY_LINEAR, 85, 0.325},   {TRM_DECAY_LINEAR, 110, 0.1},  {TRM_DECAY_CONSTANT, 5, 0.5},
    {TRM_DECAY_CONSTANT, 5000, 1.0}, {TRM_DECAY_WSD, 11, 1.0},      {TRM_DECAY_WSD, 90, 1.0},
    {TRM_DECAY_WSD, 100, 0.55},      {TRM_DECAY_WSD, 110, 0.1},
};

static void schedules_pass_through_their_points(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct trm_config config = {.lr = 1.0,
                                    .min_lr = 0.1,
                                    .lr_warmup_iters = 10,
                                    .lr_decay_iters = 110,
                                    .lr_wsd_decay_iters = 20,
                                    .lr_decay_style = cases[i].style};
        double got = trm_schedule_learning_rate(&config, cases[i].step);
        if (fabs(got - cases[i].expected) > 1e-12)
            fail_msg("style %d, step %lld: %.15g, not %.15g", cases[i].style,
                     (long long)cases[i].step, got, cases[i].expected);
    }
}

static void the_cosine_is_the_cosine(void **state)
{
    struct trm_config config = {
        .lr = 2.0, .lr_decay_iters = 1000, .lr_decay_style = TRM_DECAY_COSINE};
    (void)state;
    for (int64_t step = 1; step < 1000; step++)
        assert_true(fabs(trm_schedule_learning_rate(&config, step) -
                         (1.0 + cos(M_PI * (double)step / 1000.0))) < 1e-14);
}

static void clipping_scales_to_the_limit(void **state)
{
    (void)state;
    assert_true(trm_clip_factor(0.5, 1.0) == 1.0);
    assert_true(trm_clip_factor(4.0, 1.0) == 0.25);
    assert_true(trm_clip_factor(4.0, 0.0) == 1.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(schedules_pass_through_their_points),
        cmocka_unit_test(the_cosine_is_the_cosine),
        cmocka_unit_test(clipping_scales_to_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
