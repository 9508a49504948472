/*
 * The authenticated stream of frames between a supervisor and an agent, as a state machine over
 * bytes: no sockets, no clock. docs/recovery.md describes the bytes.
 *
 * Both sides hold the run's token and prove it (challenge and response), derive a key per
 * direction, and seal every frame: HMAC-SHA-512-256 over its length, number and text. What does not
 * fit (a stranger, noise, a changed, repeated, missing or reflected frame) fails the stream for
 * good: the first error stays, and nothing is read after it. Nothing is encrypted: frames hold no
 * secrets.
 *
 * Memory: before the peer has proved itself, the struct alone. Afterwards one frame, held in a
 * buffer that grows with the bytes that have arrived, never with the length that was claimed, to at
 * most TRM_WIRE_FRAME_BYTES. One thread per object. It uses libsodium.
 */
#ifndef TRM_LAUNCH_LINK_WIRE_H
#define TRM_LAUNCH_LINK_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define TRM_WIRE_TOKEN_BYTES    32
#define TRM_WIRE_NAME_BYTES     255               /* of a node's name, with its NUL */
#define TRM_WIRE_TEXT_BYTES     ((size_t)2 << 20) /* the longest text of a frame */
#define TRM_WIRE_OVERHEAD_BYTES 44                /* length 4, number 8, HMAC 32 */
#define TRM_WIRE_FRAME_BYTES    (TRM_WIRE_TEXT_BYTES + TRM_WIRE_OVERHEAD_BYTES)

/* The secret of a run. Whoever holds it can be an agent or a supervisor of that run. */
struct trm_wire_token {
    uint8_t bytes[TRM_WIRE_TOKEN_BYTES];
};

enum trm_status trm_wire_token_random(struct trm_wire_token *token, struct trm_error *err);

/* 64 lower-case hexadecimal digits; the error never repeats the text. */
enum trm_status trm_wire_token_parse(const char *text, struct trm_wire_token *token,
                                     struct trm_error *err);
void trm_wire_token_format(const struct trm_wire_token *token,
                           char text[2 * TRM_WIRE_TOKEN_BYTES + 1]);

/* In a time that does not tell where they differ. */
bool trm_wire_token_equal(const struct trm_wire_token *a, const struct trm_wire_token *b);

/* Overwrites it, in a way that the compiler leaves in. */
void trm_wire_token_forget(struct trm_wire_token *token);

enum trm_wire_side { TRM_WIRE_SUPERVISOR, TRM_WIRE_AGENT };

struct trm_wire;

/* `node` is the agent's name, 1 to 254 printable characters; NULL for the supervisor, which learns
 * it. The token is copied. *wire is returned owned. */
enum trm_status trm_wire_create(enum trm_wire_side side, const struct trm_wire_token *token,
                                const char *node, struct trm_wire **wire, struct trm_error *err);
void trm_wire_destroy(struct trm_wire *wire);

/* Takes up to `bytes` bytes of the peer's and sets *used to how many: all of them, or fewer when a
 * text became complete (then see trm_wire_text, and feed the rest). The error is TRM_ERR_CORRUPT
 * with what was wrong; TRM_ERR_MEMORY. */
enum trm_status trm_wire_feed(struct trm_wire *wire, const void *data, size_t bytes, size_t *used,
                              struct trm_error *err);

/* The text that the newest feed completed, NUL-terminated and borrowed until the next feed; NULL:
 * none. */
const char *trm_wire_text(const struct trm_wire *wire, size_t *bytes);

/* What the handshake wants to send now: moves up to `capacity` bytes to `out` and returns how many,
 * 0 when there is nothing. TRM_WIRE_HANDSHAKE_BYTES always suffice. To be asked after creation and
 * after each feed, and sent before anything that was sealed. */
#define TRM_WIRE_HANDSHAKE_BYTES 384
size_t trm_wire_handshake(struct trm_wire *wire, void *out, size_t capacity);

/* Both sides have proved themselves: texts may be sealed. */
bool trm_wire_is_open(const struct trm_wire *wire);

/* The agent's name: known to a supervisor once the wire is open, else "". */
const char *trm_wire_node(const struct trm_wire *wire);

/* Writes the frame of a text to `frame` (bytes + TRM_WIRE_OVERHEAD_BYTES). Requires an open wire
 * and bytes <= TRM_WIRE_TEXT_BYTES. Frames must be sent in the order in which they were sealed. */
void trm_wire_seal(struct trm_wire *wire, const char *text, size_t bytes, void *frame);

#endif
