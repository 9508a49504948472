#include "launch/link/wire.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

#define NONCE_BYTES  32
#define KEY_BYTES    32
#define MAC_BYTES    32
#define LABEL_BYTES  16
#define HEAD_BYTES   12 /* length 4, number 8 */
#define FIRST_BUFFER ((size_t)4096)

static const uint8_t magic[8] = {'t', 'r', 'm', 'w', 'i', 'r', 'e', '1'};

#define CHALLENGE_BYTES (sizeof magic + NONCE_BYTES)
#define ANSWER_HEAD     (sizeof magic + NONCE_BYTES + 1)
#define ANSWER_BYTES    (ANSWER_HEAD + TRM_WIRE_NAME_BYTES - 1 + MAC_BYTES)

_Static_assert(TRM_WIRE_OVERHEAD_BYTES == HEAD_BYTES + MAC_BYTES, "the frame's overhead");
_Static_assert(TRM_WIRE_HANDSHAKE_BYTES >= ANSWER_BYTES, "the longest part of the handshake");
_Static_assert(crypto_auth_BYTES == MAC_BYTES && crypto_auth_KEYBYTES == KEY_BYTES, "HMAC sizes");
_Static_assert(TRM_WIRE_TOKEN_BYTES == KEY_BYTES, "the token is a key");

enum state {
    WAIT_CHALLENGE, /* agent */
    WAIT_ANSWER,    /* supervisor */
    WAIT_PROOF,     /* agent */
    OPEN,
    FAILED
};

struct trm_wire {
    enum trm_wire_side side;
    enum state state;
    struct trm_error failure;
    uint8_t token[KEY_BYTES];
    uint8_t supervisor_nonce[NONCE_BYTES], agent_nonce[NONCE_BYTES];
    char node[TRM_WIRE_NAME_BYTES];
    bool node_proved;

    uint8_t out[TRM_WIRE_HANDSHAKE_BYTES];
    size_t out_bytes;

    uint8_t send_key[KEY_BYTES], receive_key[KEY_BYTES];
    uint64_t send_number, receive_number;

    uint8_t early[TRM_WIRE_HANDSHAKE_BYTES]; /* the handshake's bytes */
    uint8_t *buffer;                         /* a frame's bytes, and room for a NUL */
    size_t capacity, filled;
    size_t text_bytes;
    bool has_text;
};

enum trm_status trm_wire_token_random(struct trm_wire_token *token, struct trm_error *err)
{
    if (sodium_init() < 0)
        return trm_error_set(err, TRM_ERR_IO, "the system gave no random numbers");
    randombytes_buf(token->bytes, sizeof token->bytes);
    return TRM_OK;
}

enum trm_status trm_wire_token_parse(const char *text, struct trm_wire_token *token,
                                     struct trm_error *err)
{
    static const char digits[] = "0123456789abcdef";
    size_t length = strlen(text);
    if (length != 2 * TRM_WIRE_TOKEN_BYTES || strspn(text, digits) != length)
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "the token has %zu characters; it must be 64 hexadecimal digits in "
                             "lower case",
                             length);
    for (size_t i = 0; i < sizeof token->bytes; i++) {
        const char *high = strchr(digits, text[2 * i]), *low = strchr(digits, text[2 * i + 1]);
        token->bytes[i] = (uint8_t)((high - digits) << 4 | (low - digits));
    }
    return TRM_OK;
}

void trm_wire_token_format(const struct trm_wire_token *token,
                           char text[2 * TRM_WIRE_TOKEN_BYTES + 1])
{
    sodium_bin2hex(text, 2 * TRM_WIRE_TOKEN_BYTES + 1, token->bytes, sizeof token->bytes);
}

bool trm_wire_token_equal(const struct trm_wire_token *a, const struct trm_wire_token *b)
{
    return sodium_memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

void trm_wire_token_forget(struct trm_wire_token *token)
{
    sodium_memzero(token->bytes, sizeof token->bytes);
}

static bool is_name(const char *name, size_t length)
{
    if (length == 0 || length >= TRM_WIRE_NAME_BYTES)
        return false;
    for (size_t i = 0; i < length; i++)
        if (name[i] <= ' ' || name[i] > '~')
            return false;
    return true;
}

/* HMAC(token, label || nonces || name). Labels have one length, so no two inputs run together. */
static void derive(const struct trm_wire *wire, const char *label, uint8_t out[MAC_BYTES])
{
    uint8_t input[LABEL_BYTES + 2 * NONCE_BYTES + TRM_WIRE_NAME_BYTES] = {0};
    size_t length = strlen(wire->node);
    TRM_ASSERT(strlen(label) <= LABEL_BYTES && length < TRM_WIRE_NAME_BYTES);
    memcpy(input, label, strlen(label));
    memcpy(input + LABEL_BYTES, wire->supervisor_nonce, NONCE_BYTES);
    memcpy(input + LABEL_BYTES + NONCE_BYTES, wire->agent_nonce, NONCE_BYTES);
    memcpy(input + LABEL_BYTES + 2 * NONCE_BYTES, wire->node, length);
    crypto_auth(out, input, LABEL_BYTES + 2 * NONCE_BYTES + length, wire->token);
}

static void open_wire(struct trm_wire *wire)
{
    bool agent = wire->side == TRM_WIRE_AGENT;
    derive(wire, "key-up", agent ? wire->send_key : wire->receive_key);
    derive(wire, "key-down", agent ? wire->receive_key : wire->send_key);
    wire->node_proved = true;
    wire->state = OPEN;
}

static void put(struct trm_wire *wire, const void *data, size_t bytes)
{
    TRM_ASSERT(bytes <= sizeof wire->out - wire->out_bytes);
    memcpy(wire->out + wire->out_bytes, data, bytes);
    wire->out_bytes += bytes;
}

enum trm_status trm_wire_create(enum trm_wire_side side, const struct trm_wire_token *token,
                                const char *node, struct trm_wire **wire, struct trm_error *err)
{
    TRM_ASSERT((side == TRM_WIRE_AGENT) == (node != NULL));
    if (node && !is_name(node, strlen(node)))
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "the node's name \"%.80s\" must be 1 to %d printable characters "
                             "without blanks",
                             node, TRM_WIRE_NAME_BYTES - 1);
    if (sodium_init() < 0)
        return trm_error_set(err, TRM_ERR_IO, "the system gave no random numbers");
    struct trm_wire *made = calloc(1, sizeof *made);
    if (!made)
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for a connection");
    made->side = side;
    memcpy(made->token, token->bytes, KEY_BYTES);
    if (side == TRM_WIRE_AGENT) {
        made->state = WAIT_CHALLENGE;
        memcpy(made->node, node, strlen(node) + 1);
        randombytes_buf(made->agent_nonce, NONCE_BYTES);
    } else {
        made->state = WAIT_ANSWER;
        randombytes_buf(made->supervisor_nonce, NONCE_BYTES);
        put(made, magic, sizeof magic);
        put(made, made->supervisor_nonce, NONCE_BYTES);
    }
    *wire = made;
    return TRM_OK;
}

void trm_wire_destroy(struct trm_wire *wire)
{
    if (!wire)
        return;
    free(wire->buffer);
    sodium_memzero(wire, sizeof *wire);
    free(wire);
}

static enum trm_status fail(struct trm_wire *wire, enum trm_status status, const char *what,
                            struct trm_error *err)
{
    trm_error_set(&wire->failure, status, "%s", what);
    wire->state = FAILED;
    wire->has_text = false;
    wire->out_bytes = 0;
    return trm_error_set(err, status, "%s", what);
}

/* The bytes that the handshake's next part has in all, as far as what arrived tells. */
static size_t part_bytes(const struct trm_wire *wire)
{
    if (wire->state == WAIT_CHALLENGE)
        return CHALLENGE_BYTES;
    if (wire->state == WAIT_PROOF)
        return MAC_BYTES;
    if (wire->filled < ANSWER_HEAD)
        return ANSWER_HEAD;
    return ANSWER_HEAD + wire->early[ANSWER_HEAD - 1] + MAC_BYTES;
}

static enum trm_status answer_challenge(struct trm_wire *wire)
{
    uint8_t mac[MAC_BYTES], length = (uint8_t)strlen(wire->node);
    memcpy(wire->supervisor_nonce, wire->early + sizeof magic, NONCE_BYTES);
    derive(wire, "agent", mac);
    put(wire, magic, sizeof magic);
    put(wire, wire->agent_nonce, NONCE_BYTES);
    put(wire, &length, 1);
    put(wire, wire->node, length);
    put(wire, mac, MAC_BYTES);
    wire->state = WAIT_PROOF;
    return TRM_OK;
}

static enum trm_status check_answer(struct trm_wire *wire, struct trm_error *err)
{
    uint8_t mac[MAC_BYTES];
    size_t length = wire->early[ANSWER_HEAD - 1];
    const char *name = (const char *)wire->early + ANSWER_HEAD;
    if (!is_name(name, length))
        return fail(wire, TRM_ERR_CORRUPT, "the handshake holds a name that is none", err);
    memcpy(wire->agent_nonce, wire->early + sizeof magic, NONCE_BYTES);
    memcpy(wire->node, name, length);
    wire->node[length] = '\0';
    derive(wire, "agent", mac);
    if (sodium_memcmp(mac, wire->early + ANSWER_HEAD + length, MAC_BYTES) != 0)
        return fail(wire, TRM_ERR_CORRUPT, "the peer does not know this run's token", err);
    derive(wire, "supervisor", mac);
    put(wire, mac, MAC_BYTES);
    open_wire(wire);
    return TRM_OK;
}

static enum trm_status check_proof(struct trm_wire *wire, struct trm_error *err)
{
    uint8_t mac[MAC_BYTES];
    derive(wire, "supervisor", mac);
    if (sodium_memcmp(mac, wire->early, MAC_BYTES) != 0)
        return fail(wire, TRM_ERR_CORRUPT, "the supervisor does not know this run's token", err);
    open_wire(wire);
    return TRM_OK;
}

/* Noise is noticed at its first byte, and what is no name before the rest of it is waited for. */
static enum trm_status check_early(struct trm_wire *wire, struct trm_error *err)
{
    size_t known = wire->filled < sizeof magic ? wire->filled : sizeof magic;
    if (wire->state != WAIT_PROOF && memcmp(wire->early, magic, known) != 0)
        return fail(wire, TRM_ERR_CORRUPT, "the peer does not speak this protocol", err);
    if (wire->state == WAIT_ANSWER && wire->filled >= ANSWER_HEAD) {
        size_t length = wire->early[ANSWER_HEAD - 1], here = wire->filled - ANSWER_HEAD;
        here = here < length ? here : length;
        if (length == 0 || length >= TRM_WIRE_NAME_BYTES ||
            (here > 0 && !is_name((const char *)wire->early + ANSWER_HEAD, here)))
            return fail(wire, TRM_ERR_CORRUPT, "the handshake holds a name that is none", err);
    }
    return TRM_OK;
}

static enum trm_status feed_handshake(struct trm_wire *wire, const uint8_t *data, size_t bytes,
                                      size_t *used, struct trm_error *err)
{
    size_t wanted = part_bytes(wire) - wire->filled;
    size_t taken = bytes < wanted ? bytes : wanted;
    TRM_ASSERT(wire->filled + taken <= sizeof wire->early);
    memcpy(wire->early + wire->filled, data, taken);
    wire->filled += taken;
    *used = taken;
    enum trm_status status = check_early(wire, err);
    if (status != TRM_OK || wire->filled < part_bytes(wire))
        return status;
    status = wire->state == WAIT_CHALLENGE ? answer_challenge(wire)
             : wire->state == WAIT_ANSWER  ? check_answer(wire, err)
                                           : check_proof(wire, err);
    wire->filled = 0;
    return status;
}

static void put_little(uint8_t *out, uint64_t number, int bytes)
{
    for (int i = 0; i < bytes; i++)
        out[i] = (uint8_t)(number >> (8 * i));
}

static uint64_t get_little(const uint8_t *in, int bytes)
{
    uint64_t number = 0;
    for (int i = 0; i < bytes; i++)
        number |= (uint64_t)in[i] << (8 * i);
    return number;
}

static enum trm_status reserve(struct trm_wire *wire, size_t wanted, struct trm_error *err)
{
    size_t capacity = wire->capacity ? wire->capacity : FIRST_BUFFER;
    while (capacity < wanted)
        capacity *= 2;
    if (capacity > TRM_WIRE_FRAME_BYTES)
        capacity = TRM_WIRE_FRAME_BYTES;
    if (capacity == wire->capacity)
        return TRM_OK;
    uint8_t *larger = realloc(wire->buffer, capacity);
    if (!larger)
        return fail(wire, TRM_ERR_MEMORY, "out of memory for a message", err);
    wire->buffer = larger;
    wire->capacity = capacity;
    return TRM_OK;
}

static enum trm_status check_frame(struct trm_wire *wire, size_t text_bytes, struct trm_error *err)
{
    size_t sealed = HEAD_BYTES + text_bytes;
    if (crypto_auth_verify(wire->buffer + sealed, wire->buffer, sealed, wire->receive_key) != 0)
        return fail(wire, TRM_ERR_CORRUPT, "a message was changed, or is not the peer's", err);
    if (get_little(wire->buffer + 4, 8) != wire->receive_number)
        return fail(wire, TRM_ERR_CORRUPT, "a message is repeated, or one is missing", err);
    wire->receive_number++;
    wire->buffer[sealed] = '\0';
    wire->text_bytes = text_bytes;
    wire->has_text = true;
    wire->filled = 0;
    return TRM_OK;
}

static enum trm_status feed_frame(struct trm_wire *wire, const uint8_t *data, size_t bytes,
                                  size_t *used, struct trm_error *err)
{
    size_t length = 0, wanted = 4;
    if (wire->filled >= 4) {
        length = (size_t)get_little(wire->buffer, 4);
        wanted = length + TRM_WIRE_OVERHEAD_BYTES;
    }
    size_t taken = wanted - wire->filled;
    if (taken > bytes)
        taken = bytes;
    enum trm_status status = reserve(wire, wire->filled + taken, err);
    if (status != TRM_OK)
        return status;
    memcpy(wire->buffer + wire->filled, data, taken);
    wire->filled += taken;
    *used = taken;
    if (wire->filled < wanted)
        return TRM_OK;
    if (wanted == 4) {
        if (get_little(wire->buffer, 4) > TRM_WIRE_TEXT_BYTES)
            return fail(wire, TRM_ERR_CORRUPT, "a message is longer than 2 MiB", err);
        return TRM_OK;
    }
    return check_frame(wire, length, err);
}

enum trm_status trm_wire_feed(struct trm_wire *wire, const void *data, size_t bytes, size_t *used,
                              struct trm_error *err)
{
    const uint8_t *cursor = data;
    size_t total = 0;
    enum trm_status status = TRM_OK;
    wire->has_text = false;
    while (status == TRM_OK && total < bytes && !wire->has_text) {
        size_t taken = 0;
        if (wire->state == FAILED) {
            status = trm_error_set(err, wire->failure.status, "%s", wire->failure.text);
            break;
        }
        status = wire->state == OPEN
                     ? feed_frame(wire, cursor + total, bytes - total, &taken, err)
                     : feed_handshake(wire, cursor + total, bytes - total, &taken, err);
        total += taken;
    }
    if (status == TRM_OK)
        *used = total;
    return status;
}

const char *trm_wire_text(const struct trm_wire *wire, size_t *bytes)
{
    if (!wire->has_text)
        return NULL;
    *bytes = wire->text_bytes;
    return (const char *)wire->buffer + HEAD_BYTES;
}

size_t trm_wire_handshake(struct trm_wire *wire, void *out, size_t capacity)
{
    size_t bytes = wire->out_bytes < capacity ? wire->out_bytes : capacity;
    memcpy(out, wire->out, bytes);
    memmove(wire->out, wire->out + bytes, wire->out_bytes - bytes);
    wire->out_bytes -= bytes;
    return bytes;
}

bool trm_wire_is_open(const struct trm_wire *wire)
{
    return wire->state == OPEN;
}

const char *trm_wire_node(const struct trm_wire *wire)
{
    return wire->node_proved ? wire->node : "";
}

void trm_wire_seal(struct trm_wire *wire, const char *text, size_t bytes, void *frame)
{
    uint8_t *out = frame;
    TRM_ASSERT(wire->state == OPEN && bytes <= TRM_WIRE_TEXT_BYTES);
    put_little(out, bytes, 4);
    put_little(out + 4, wire->send_number++, 8);
    memcpy(out + HEAD_BYTES, text, bytes);
    crypto_auth(out + HEAD_BYTES + bytes, out, HEAD_BYTES + bytes, wire->send_key);
}
