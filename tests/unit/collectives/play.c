#include "play.h"

#include <string.h>

/* A step: what is started and waited for at once, in order. */
static const enum trm_flight_group program[PLACES] = {
    TRM_FLIGHT_WORLD, TRM_FLIGHT_TENSOR, TRM_FLIGHT_TENSOR, TRM_FLIGHT_DATA, TRM_FLIGHT_TENSOR,
    TRM_FLIGHT_DATA,  TRM_FLIGHT_DATA,   TRM_FLIGHT_WORLD,  TRM_FLIGHT_DATA, TRM_FLIGHT_WORLD,
};

enum trm_flight_group play_group(int place)
{
    return program[place];
}

void play_init(struct play *play, int data, int tensor)
{
    memset(play, 0, sizeof *play);
    play->data = data;
    play->tensor = tensor;
    play->ranks = data * tensor;
    for (int i = 0; i < play->ranks; i++) {
        play->stop[i] = PLACES;
        play->views[i] = (struct trm_flight_view){
            .state = TRM_FLIGHT_RUNNING,
            .rank = i,
            .world_size = play->ranks,
            .data_size = data,
            .tensor_size = tensor,
            .process = 'S',
            .phase = TRM_PHASE_FORWARD,
            .step = 117,
        };
    }
}

bool play_together(const struct play *play, int a, int b, enum trm_flight_group group)
{
    return group == TRM_FLIGHT_WORLD  ? true
           : group == TRM_FLIGHT_DATA ? a % play->tensor == b % play->tensor
                                      : a / play->tensor == b / play->tensor;
}

int play_size(const struct play *play, enum trm_flight_group group)
{
    return group == TRM_FLIGHT_WORLD  ? play->ranks
           : group == TRM_FLIGHT_DATA ? play->data
                                      : play->tensor;
}

/* Has everybody of the rank's group entered the place it stands at? */
static bool is_complete(const struct play *play, int rank)
{
    enum trm_flight_group group = play_group(play->at[rank]);
    int64_t number = play->views[rank].lanes[group].waiting;

    for (int i = 0; i < play->ranks; i++)
        if (play_together(play, rank, i, group) && play->views[i].lanes[group].entered < number)
            return false;
    return true;
}

/* One move of one rank; false when it can't. */
static bool move(struct play *play, int rank, int64_t now_ms)
{
    struct trm_flight_view *view = &play->views[rank];
    struct trm_flight_lane_view *lane;

    if (play->at[rank] == PLACES)
        return false;
    lane = &view->lanes[play_group(play->at[rank])];
    if (lane->waiting == 0) {
        if (play->at[rank] == play->stop[rank])
            return false;
        lane->waiting = ++lane->entered;
        lane->operation = TRM_FLIGHT_ALL_REDUCE;
        lane->age_ms = now_ms; /* turned into an age at the end */
        return true;
    }
    if (!is_complete(play, rank))
        return false;
    lane->waiting = 0;
    lane->completed++;
    view->phase_age_ms = now_ms;
    play->at[rank]++;
    return true;
}

void play_run(struct play *play)
{
    int64_t now_ms = 1;

    for (bool moved = true; moved; now_ms++) {
        moved = false;
        for (int i = 0; i < play->ranks; i++)
            moved = move(play, i, now_ms) || moved;
    }
    for (int i = 0; i < play->ranks; i++) {
        play->views[i].phase_age_ms = now_ms - play->views[i].phase_age_ms;
        for (int g = 0; g < TRM_FLIGHT_GROUPS; g++)
            play->views[i].lanes[g].age_ms = now_ms - play->views[i].lanes[g].age_ms;
    }
}
