#include "checkpoint/parallel/pace.h"

#include <math.h>

#define NEW_WEIGHT 0.125
#define STEPS_MIN  3 /* measured before an interval is chosen, the first not counted */

void trm_pace_init(struct trm_pace *pace, int64_t interval)
{
    *pace = (struct trm_pace){
        .interval = interval == TRM_PACE_AUTO ? 1 : interval,
        .automatic = interval == TRM_PACE_AUTO,
    };
}

static double smooth(double before, int64_t value, bool is_first)
{
    return is_first ? (double)value : before + NEW_WEIGHT * ((double)value - before);
}

void trm_pace_exchange(struct trm_pace *pace, int64_t ns)
{
    pace->exchange_ns = (double)ns;
}

void trm_pace_copy(struct trm_pace *pace, int64_t ns)
{
    pace->copy_ns = smooth(pace->copy_ns, ns, pace->copies++ == 0);
}

void trm_pace_step(struct trm_pace *pace, int64_t ns)
{
    if (pace->steps++ > 0)
        pace->step_ns = smooth(pace->step_ns, ns, pace->steps == 2);
}

void trm_pace_report(const struct trm_pace *pace, int64_t words[TRM_PACE_WORDS])
{
    bool known = pace->steps >= STEPS_MIN && pace->copies > 0;
    words[0] = known ? (int64_t)(pace->copy_ns + pace->exchange_ns) : INT64_MAX;
    words[1] = known ? -(int64_t)pace->step_ns : 0;
}

bool trm_pace_agree(struct trm_pace *pace, const int64_t words[TRM_PACE_WORDS])
{
    if (words[0] == INT64_MAX || words[1] >= 0)
        return false;
    pace->agreed_cost_ns = (double)words[0];
    pace->agreed_step_ns = -(double)words[1];
    if (!pace->automatic)
        return false;
    double steps = ceil(pace->agreed_cost_ns / (TRM_PACE_SHARE * pace->agreed_step_ns));
    int64_t interval = steps < 1                       ? 1
                       : steps > TRM_PACE_INTERVAL_MAX ? TRM_PACE_INTERVAL_MAX
                                                       : (int64_t)steps;
    pace->interval = interval;
    if (pace->told > 0 && interval < 2 * pace->told && 2 * interval > pace->told)
        return false;
    pace->told = interval;
    return true;
}

double trm_pace_cost_share(const struct trm_pace *pace)
{
    if (pace->agreed_step_ns <= 0)
        return 0;
    return pace->agreed_cost_ns / ((double)pace->interval * pace->agreed_step_ns);
}
