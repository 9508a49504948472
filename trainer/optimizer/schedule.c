#include "trainer/optimizer/schedule.h"

/* cos(pi x) for x in [0, 1], by its Taylor series around the nearest of 0 and 1: error below 1e-16.
 */
static double cos_pi(double x)
{
    const double pi = 3.14159265358979323846;
    double sign = 1.0, angle = x * pi, square, term = 1.0, sum = 1.0;

    if (x > 0.5) {
        sign = -1.0;
        angle = (1.0 - x) * pi;
    }
    square = angle * angle;
    for (int k = 1; k <= 12; k++) {
        term *= -square / (double)(2 * k * (2 * k - 1));
        sum += term;
    }
    return sign * sum;
}

static double clamp01(double x)
{
    return x < 0.0 ? 0.0 : x > 1.0 ? 1.0 : x;
}

double trm_schedule_learning_rate(const struct trm_config *config, int64_t step)
{
    double peak = config->lr, low = config->min_lr;
    int64_t warmup = config->lr_warmup_iters, end = config->lr_decay_iters;
    int64_t begin = warmup;
    double progress;

    if (end == 0)
        end = config->train_iters;
    if (step <= warmup && warmup > 0)
        return peak * (double)step / (double)warmup;
    if (config->lr_decay_style == TRM_DECAY_CONSTANT)
        return peak;
    if (config->lr_decay_style == TRM_DECAY_WSD) {
        int64_t length = config->lr_wsd_decay_iters;
        if (length == 0)
            length = end / 10;
        begin = end - length > warmup ? end - length : warmup;
    }
    if (step >= end)
        return low;
    progress = clamp01((double)(step - begin) / (double)(end - begin));
    if (config->lr_decay_style == TRM_DECAY_COSINE)
        return low + 0.5 * (1.0 + cos_pi(progress)) * (peak - low);
    return peak + progress * (low - peak);
}
