/* The stream between supervisor and agent. The first byte says where the rest goes in: into a
 * handshake of either side, or into an open stream; the second, in which pieces. Nothing that a
 * peer without the token sends may come out as a text. */
#include "fuzz.h"

#include <string.h>

#include "base/assert.h"
#include "launch/link/wire.h"

static const struct trm_wire_token token = {{1, 2, 3}}, other_token = {{4, 5, 6}};

static void pass_handshake(struct trm_wire *from, struct trm_wire *to)
{
    uint8_t bytes[TRM_WIRE_HANDSHAKE_BYTES];
    size_t length = trm_wire_handshake(from, bytes, sizeof bytes), used = 0;
    TRM_ASSERT(length > 0 && trm_wire_feed(to, bytes, length, &used, NULL) == TRM_OK);
    TRM_ASSERT(used == length);
}

static void open_pair(struct trm_wire *supervisor, struct trm_wire *agent)
{
    pass_handshake(supervisor, agent);
    pass_handshake(agent, supervisor);
    pass_handshake(supervisor, agent);
    TRM_ASSERT(trm_wire_is_open(supervisor) && trm_wire_is_open(agent));
}

/* Feeds it in pieces of `piece` bytes; after an error the same error comes for ever. */
static void feed(struct trm_wire *wire, const uint8_t *data, size_t size, size_t piece)
{
    struct trm_error err = {0}, again = {0};
    while (size > 0) {
        size_t length = size < piece ? size : piece, used = 0, text_bytes = 0;
        if (trm_wire_feed(wire, data, length, &used, &err) != TRM_OK) {
            TRM_ASSERT(!trm_wire_is_open(wire) && err.text[0] != '\0');
            TRM_ASSERT(trm_wire_feed(wire, data, length, &used, &again) == err.status);
            TRM_ASSERT(strcmp(err.text, again.text) == 0);
            return;
        }
        TRM_ASSERT(used == length && !trm_wire_text(wire, &text_bytes));
        data += used;
        size -= used;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct trm_wire *supervisor = NULL, *agent = NULL;
    if (size < 2)
        return 0;
    const struct trm_wire_token *agents = data[0] & 4 ? &other_token : &token;
    TRM_ASSERT(trm_wire_create(TRM_WIRE_SUPERVISOR, &token, NULL, &supervisor, NULL) == TRM_OK);
    TRM_ASSERT(trm_wire_create(TRM_WIRE_AGENT, agents, "node", &agent, NULL) == TRM_OK);
    bool open = (data[0] & 2) && agents == &token;
    if (open)
        open_pair(supervisor, agent);
    struct trm_wire *target = data[0] & 1 ? agent : supervisor;
    feed(target, data + 2, size - 2, (size_t)data[1] + 1);
    TRM_ASSERT(open || !trm_wire_is_open(target));
    trm_wire_destroy(supervisor);
    trm_wire_destroy(agent);
    return 0;
}
