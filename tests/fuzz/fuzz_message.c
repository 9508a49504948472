/* Messages between supervisor and agent, from either side. What is accepted is written, and must be
 * read back and written the same. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "launch/link/message.h"

static void check_beat(const struct trm_message_beat *beat)
{
    TRM_ASSERT(beat->launcher < TRM_LAUNCHERS);
    TRM_ASSERT(beat->rank_count >= 0 && beat->rank_count <= TRM_FLIGHT_MAX_RANKS);
    for (int i = 0; i < beat->rank_count; i++) {
        const struct trm_rank_report *rank = &beat->ranks[i];
        TRM_ASSERT(rank->rank >= 0 && rank->local_rank < TRM_FLIGHT_MAX_RANKS);
        TRM_ASSERT(rank->phase < TRM_PHASE_COUNT && rank->state <= TRM_FLIGHT_EXITED);
        TRM_ASSERT(rank->exit_status < TRM_STATUS_COUNT);
        for (int lane = 0; lane < TRM_FLIGHT_GROUPS; lane++)
            TRM_ASSERT(rank->lanes[lane].operation < TRM_FLIGHT_OPERATION_COUNT);
    }
}

static void check_round_trip(bool from_agent, const struct trm_message *message)
{
    struct trm_message again;
    char *first = NULL, *second = NULL;
    size_t first_bytes = 0, second_bytes = 0;
    TRM_ASSERT(trm_message_encode(message, &first, &first_bytes, NULL) == TRM_OK);
    TRM_ASSERT(trm_message_decode(from_agent, first, first_bytes, &again, NULL) == TRM_OK);
    TRM_ASSERT(trm_message_encode(&again, &second, &second_bytes, NULL) == TRM_OK);
    TRM_ASSERT(first_bytes == second_bytes && memcmp(first, second, first_bytes) == 0);
    trm_message_clear(&again);
    free(first);
    free(second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (int from_agent = 0; from_agent < 2; from_agent++) {
        struct trm_message message;
        struct trm_error err = {0};
        enum trm_status status =
            trm_message_decode(from_agent != 0, (const char *)data, size, &message, &err);
        TRM_ASSERT(status == TRM_OK || err.text[0] != '\0');
        if (status != TRM_OK)
            continue;
        TRM_ASSERT((message.type < TRM_MESSAGE_ACK) == (from_agent != 0));
        if (message.type == TRM_MESSAGE_BEAT)
            check_beat(&message.beat);
        check_round_trip(from_agent != 0, &message);
        trm_message_clear(&message);
    }
    return 0;
}
