/* A hang, played through: ranks of a mesh run a program of collectives, some stop before one of
 * them, and the others go on until they wait. What their records then say is for verdicts. */
#ifndef TRM_TESTS_PLAY_H
#define TRM_TESTS_PLAY_H

#include "collectives/flight_view.h"

#define MOST_RANKS 6
#define PLACES     10

struct play {
    int data, tensor, ranks;
    int stop[MOST_RANKS]; /* the place before which a rank stops; PLACES: never */
    int at[MOST_RANKS];   /* the place a rank stands at */
    struct trm_flight_view views[MOST_RANKS];
};

/* The group of the collective at a place of the program, for 0 <= place < PLACES. */
enum trm_flight_group play_group(int place);

/* Every rank at the first place, and none to stop; set play->stop then. */
void play_init(struct play *play, int data, int tensor);

/* Until nobody can move. */
void play_run(struct play *play);

bool play_together(const struct play *play, int a, int b, enum trm_flight_group group);
int play_size(const struct play *play, enum trm_flight_group group);

#endif
