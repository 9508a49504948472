#include "launch/link/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct pair {
    struct trm_wire *supervisor, *agent;
};

static const struct trm_wire_token token = {{7, 1, 9}};

static struct pair make_pair(void)
{
    struct pair pair = {NULL, NULL};
    assert_int_equal(trm_wire_create(TRM_WIRE_SUPERVISOR, &token, NULL, &pair.supervisor, NULL),
                     TRM_OK);
    assert_int_equal(trm_wire_create(TRM_WIRE_AGENT, &token, "node2", &pair.agent, NULL), TRM_OK);
    return pair;
}

static void destroy_pair(struct pair pair)
{
    trm_wire_destroy(pair.supervisor);
    trm_wire_destroy(pair.agent);
}

/* What `wire` wants to say; more than it may ever have is not taken. */
static size_t said(struct trm_wire *wire, uint8_t *out)
{
    return trm_wire_handshake(wire, out, TRM_WIRE_HANDSHAKE_BYTES);
}

static enum trm_status feed_all(struct trm_wire *wire, const uint8_t *data, size_t bytes,
                                struct trm_error *err)
{
    size_t used = 0;
    enum trm_status status = trm_wire_feed(wire, data, bytes, &used, err);
    if (status == TRM_OK)
        assert_int_equal(used, bytes);
    return status;
}

static void pass(struct trm_wire *from, struct trm_wire *to)
{
    uint8_t bytes[TRM_WIRE_HANDSHAKE_BYTES];
    size_t length = said(from, bytes);
    assert_true(length > 0);
    assert_int_equal(feed_all(to, bytes, length, NULL), TRM_OK);
}

static struct pair make_open_pair(void)
{
    struct pair pair = make_pair();
    pass(pair.supervisor, pair.agent);
    pass(pair.agent, pair.supervisor);
    pass(pair.supervisor, pair.agent);
    assert_true(trm_wire_is_open(pair.supervisor) && trm_wire_is_open(pair.agent));
    return pair;
}

static size_t seal(struct trm_wire *wire, const char *text, uint8_t *frame)
{
    trm_wire_seal(wire, text, strlen(text), frame);
    return strlen(text) + TRM_WIRE_OVERHEAD_BYTES;
}

static void expect_text(struct trm_wire *wire, const uint8_t *frame, size_t bytes, const char *text)
{
    size_t length = 0;
    assert_int_equal(feed_all(wire, frame, bytes, NULL), TRM_OK);
    assert_non_null(trm_wire_text(wire, &length));
    assert_int_equal(length, strlen(text));
    assert_string_equal(trm_wire_text(wire, &length), text);
}

/* No text, the wire closed for good, and the words hold `what`. */
static void expect_failure(struct trm_wire *wire, const uint8_t *data, size_t bytes,
                           const char *what)
{
    struct trm_error err = {0}, again = {0};
    size_t length = 0, used = 0;
    assert_int_equal(trm_wire_feed(wire, data, bytes, &used, &err), TRM_ERR_CORRUPT);
    if (!strstr(err.text, what))
        fail_msg("\"%s\" does not say \"%s\"", err.text, what);
    assert_null(trm_wire_text(wire, &length));
    assert_false(trm_wire_is_open(wire));
    uint8_t out[TRM_WIRE_HANDSHAKE_BYTES];
    assert_int_equal(said(wire, out), 0);
    assert_int_equal(trm_wire_feed(wire, "x", 1, &used, &again), TRM_ERR_CORRUPT);
    assert_string_equal(err.text, again.text);
}

static void both_sides_open_and_texts_pass_both_ways(void **state)
{
    (void)state;
    struct pair pair = make_open_pair();
    uint8_t frame[256];
    assert_string_equal(trm_wire_node(pair.supervisor), "node2");
    for (int i = 0; i < 3; i++) {
        size_t bytes = seal(pair.agent, "{\"type\":\"beat\"}", frame);
        expect_text(pair.supervisor, frame, bytes, "{\"type\":\"beat\"}");
        bytes = seal(pair.supervisor, "", frame);
        expect_text(pair.agent, frame, bytes, "");
    }
    destroy_pair(pair);
}

static void bytes_may_come_one_by_one(void **state)
{
    (void)state;
    struct pair pair = make_pair();
    struct trm_wire *from[] = {pair.supervisor, pair.agent, pair.supervisor};
    struct trm_wire *to[] = {pair.agent, pair.supervisor, pair.agent};
    uint8_t bytes[TRM_WIRE_HANDSHAKE_BYTES];
    for (int part = 0; part < 3; part++) {
        size_t length = said(from[part], bytes);
        for (size_t i = 0; i < length; i++) {
            assert_int_equal(said(to[part], bytes + length), 0);
            assert_int_equal(feed_all(to[part], bytes + i, 1, NULL), TRM_OK);
        }
    }
    size_t length = seal(pair.agent, "hello", bytes), text_bytes = 0;
    for (size_t i = 0; i < length; i++) {
        assert_null(trm_wire_text(pair.supervisor, &text_bytes));
        assert_int_equal(feed_all(pair.supervisor, bytes + i, 1, NULL), TRM_OK);
    }
    assert_string_equal(trm_wire_text(pair.supervisor, &text_bytes), "hello");
    destroy_pair(pair);
}

static void frames_in_one_piece_come_out_one_by_one(void **state)
{
    (void)state;
    struct pair pair = make_open_pair();
    uint8_t frames[512];
    size_t first = seal(pair.agent, "one", frames), used = 0, bytes = 0;
    size_t both = first + seal(pair.agent, "two", frames + first);
    assert_int_equal(trm_wire_feed(pair.supervisor, frames, both, &used, NULL), TRM_OK);
    assert_int_equal(used, first);
    assert_string_equal(trm_wire_text(pair.supervisor, &bytes), "one");
    expect_text(pair.supervisor, frames + used, both - used, "two");
    destroy_pair(pair);
}

static void every_changed_byte_of_the_handshake_is_refused(void **state)
{
    (void)state;
    for (int part = 0; part < 3; part++)
        for (size_t place = 0, length = 1; place < length; place++) {
            struct pair pair = make_pair();
            struct trm_wire *from = pair.supervisor, *to = pair.agent;
            for (int i = 0; i < part; i++) {
                pass(from, to);
                struct trm_wire *turn = from;
                from = to;
                to = turn;
            }
            uint8_t bytes[TRM_WIRE_HANDSHAKE_BYTES];
            length = said(from, bytes);
            bytes[place] ^= 0x10;
            /* A changed challenge is seen by the one who sent it; a longer name, never complete. */
            enum trm_status status = feed_all(to, bytes, length, NULL);
            if (status == TRM_OK && part == 0)
                status = feed_all(from, bytes, said(to, bytes), NULL);
            assert_true(status == TRM_ERR_CORRUPT || part == 1);
            assert_false(trm_wire_is_open(from) && trm_wire_is_open(to));
            assert_false(part < 2 && (trm_wire_is_open(from) || trm_wire_is_open(to)));
            destroy_pair(pair);
        }
}

/* A length that grew waits for more; what then comes does not mend it. */
static void expect_noise_to_end_it(struct trm_wire *wire)
{
    uint8_t noise[4096] = {0};
    enum trm_status status = TRM_OK;
    for (int i = 0; i < 600 && status == TRM_OK; i++)
        status = feed_all(wire, noise, sizeof noise, NULL);
    assert_int_equal(status, TRM_ERR_CORRUPT);
}

static void every_changed_bit_of_a_frame_is_refused(void **state)
{
    (void)state;
    uint8_t frame[128];
    for (size_t bit = 0, bits = 1; bit < bits; bit++) {
        struct pair pair = make_open_pair();
        size_t length = seal(pair.agent, "{\"type\":\"bye\"}", frame), text_bytes = 0;
        bits = 8 * length;
        frame[bit / 8] ^= (uint8_t)(1 << bit % 8);
        (void)!feed_all(pair.supervisor, frame, length, NULL);
        assert_null(trm_wire_text(pair.supervisor, &text_bytes));
        expect_noise_to_end_it(pair.supervisor);
        destroy_pair(pair);
    }
}

static void a_truncated_frame_never_comes_out(void **state)
{
    (void)state;
    uint8_t frame[128], next[128];
    for (size_t cut = 1; cut < 14 + TRM_WIRE_OVERHEAD_BYTES; cut++) {
        struct pair pair = make_open_pair();
        size_t length = seal(pair.agent, "{\"type\":\"bye\"}", frame), text_bytes = 0;
        assert_int_equal(length, 14 + TRM_WIRE_OVERHEAD_BYTES);
        size_t second = seal(pair.agent, "{\"type\":\"bye\"}", next);
        assert_int_equal(feed_all(pair.supervisor, frame, length - cut, NULL), TRM_OK);
        (void)!feed_all(pair.supervisor, next, second, NULL);
        assert_null(trm_wire_text(pair.supervisor, &text_bytes));
        expect_noise_to_end_it(pair.supervisor);
        destroy_pair(pair);
    }
}

static void repeated_missing_and_reordered_frames_are_refused(void **state)
{
    (void)state;
    static const int orders[][2] = {{0, 0}, {1, -1}, {1, 0}, {0, 2}};
    for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
        struct pair pair = make_open_pair();
        uint8_t frames[3][128];
        size_t length = 0;
        for (int k = 0; k < 3; k++)
            length = seal(pair.agent, "text", frames[k]);
        const int *order = orders[i];
        if (order[0] == 0)
            expect_text(pair.supervisor, frames[0], length, "text");
        expect_failure(pair.supervisor, frames[order[0] == 0 ? order[1] : order[0]], length,
                       "repeated, or one is missing");
        destroy_pair(pair);
    }
}

static void a_frame_sent_back_is_refused(void **state)
{
    (void)state;
    struct pair pair = make_open_pair();
    uint8_t frame[128];
    size_t length = seal(pair.agent, "text", frame);
    expect_failure(pair.agent, frame, length, "not the peer's");
    length = seal(pair.supervisor, "text", frame);
    expect_failure(pair.supervisor, frame, length, "not the peer's");
    destroy_pair(pair);
}

static void a_frame_of_another_connection_is_refused(void **state)
{
    (void)state;
    struct pair pair = make_open_pair(), other = make_open_pair();
    uint8_t frame[128];
    size_t length = seal(other.agent, "text", frame);
    expect_failure(pair.supervisor, frame, length, "not the peer's");
    destroy_pair(pair);
    destroy_pair(other);
}

static void a_handshake_sent_back_is_refused(void **state)
{
    (void)state;
    struct pair pair = make_pair();
    uint8_t challenge[TRM_WIRE_HANDSHAKE_BYTES], answer[TRM_WIRE_HANDSHAKE_BYTES];
    size_t length = said(pair.supervisor, challenge);
    assert_int_equal(feed_all(pair.supervisor, challenge, length, NULL), TRM_OK);
    expect_failure(pair.supervisor, challenge, length, "a name that is none");

    struct pair second = make_pair();
    pass(second.supervisor, second.agent);
    length = said(second.agent, answer);
    expect_failure(second.agent, answer, length, "does not know this run's token");
    destroy_pair(pair);
    destroy_pair(second);
}

static void an_answer_to_an_older_challenge_is_refused(void **state)
{
    (void)state;
    struct pair pair = make_pair(), later = make_pair();
    uint8_t answer[TRM_WIRE_HANDSHAKE_BYTES];
    pass(pair.supervisor, pair.agent);
    size_t length = said(pair.agent, answer);
    expect_failure(later.supervisor, answer, length, "does not know this run's token");
    destroy_pair(pair);
    destroy_pair(later);
}

static void a_peer_with_another_token_is_refused(void **state)
{
    (void)state;
    const struct trm_wire_token wrong = {{7, 1, 8}};
    struct pair pair = make_pair();
    struct trm_wire *stranger = NULL;
    uint8_t answer[TRM_WIRE_HANDSHAKE_BYTES];
    assert_int_equal(trm_wire_create(TRM_WIRE_AGENT, &wrong, "node2", &stranger, NULL), TRM_OK);
    pass(pair.supervisor, stranger);
    size_t length = said(stranger, answer);
    expect_failure(pair.supervisor, answer, length, "does not know this run's token");
    assert_string_equal(trm_wire_node(pair.supervisor), "");
    trm_wire_destroy(stranger);
    destroy_pair(pair);
}

static void noise_is_refused_at_its_first_byte(void **state)
{
    (void)state;
    struct pair pair = make_pair();
    expect_failure(pair.supervisor, (const uint8_t *)"GET / HTTP/1.1\r\n", 1, "does not speak");
    expect_failure(pair.agent, (const uint8_t *)"SSH-2.0", 1, "does not speak");
    destroy_pair(pair);
}

static void an_overlong_frame_is_refused_at_its_length(void **state)
{
    (void)state;
    struct pair pair = make_open_pair();
    uint8_t length[4] = {1, 0, 0x20, 0};
    expect_failure(pair.supervisor, length, sizeof length, "longer than 2 MiB");
    destroy_pair(pair);
}

static void the_longest_text_passes(void **state)
{
    (void)state;
    struct pair pair = make_open_pair();
    char *text = malloc(TRM_WIRE_TEXT_BYTES + 1);
    uint8_t *frame = malloc(TRM_WIRE_FRAME_BYTES);
    assert_non_null(text);
    assert_non_null(frame);
    memset(text, 'a', TRM_WIRE_TEXT_BYTES);
    text[TRM_WIRE_TEXT_BYTES] = '\0';
    size_t length = seal(pair.agent, text, frame);
    expect_text(pair.supervisor, frame, length, text);
    length = seal(pair.agent, "short", frame);
    expect_text(pair.supervisor, frame, length, "short");
    free(text);
    free(frame);
    destroy_pair(pair);
}

static void tokens_are_written_and_read(void **state)
{
    (void)state;
    struct trm_wire_token made, read;
    char text[2 * TRM_WIRE_TOKEN_BYTES + 1];
    struct trm_error err = {0};
    assert_int_equal(trm_wire_token_random(&made, NULL), TRM_OK);
    trm_wire_token_format(&made, text);
    assert_int_equal(trm_wire_token_parse(text, &read, NULL), TRM_OK);
    assert_memory_equal(&made, &read, sizeof made);
    text[5] = 'G';
    assert_int_equal(trm_wire_token_parse(text, &read, &err), TRM_ERR_CONFIG);
    assert_null(strstr(err.text, text));
    assert_int_equal(trm_wire_token_parse("abc", &read, NULL), TRM_ERR_CONFIG);
}

static void names_are_checked(void **state)
{
    (void)state;
    static const char *const wrong[] = {"", "two words", "tab\t"};
    char name[TRM_WIRE_NAME_BYTES + 1];
    struct trm_wire *longest = NULL;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct trm_wire *wire = NULL;
        assert_int_equal(trm_wire_create(TRM_WIRE_AGENT, &token, wrong[i], &wire, NULL),
                         TRM_ERR_CONFIG);
        assert_null(wire);
    }
    memset(name, 'n', sizeof name);
    name[TRM_WIRE_NAME_BYTES] = '\0';
    assert_int_equal(trm_wire_create(TRM_WIRE_AGENT, &token, name, &longest, NULL), TRM_ERR_CONFIG);
    name[TRM_WIRE_NAME_BYTES - 1] = '\0';
    struct pair pair = {NULL, NULL};
    assert_int_equal(trm_wire_create(TRM_WIRE_SUPERVISOR, &token, NULL, &pair.supervisor, NULL),
                     TRM_OK);
    assert_int_equal(trm_wire_create(TRM_WIRE_AGENT, &token, name, &pair.agent, NULL), TRM_OK);
    pass(pair.supervisor, pair.agent);
    pass(pair.agent, pair.supervisor);
    pass(pair.supervisor, pair.agent);
    assert_string_equal(trm_wire_node(pair.supervisor), name);
    destroy_pair(pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_sides_open_and_texts_pass_both_ways),
        cmocka_unit_test(bytes_may_come_one_by_one),
        cmocka_unit_test(frames_in_one_piece_come_out_one_by_one),
        cmocka_unit_test(every_changed_byte_of_the_handshake_is_refused),
        cmocka_unit_test(every_changed_bit_of_a_frame_is_refused),
        cmocka_unit_test(a_truncated_frame_never_comes_out),
        cmocka_unit_test(repeated_missing_and_reordered_frames_are_refused),
        cmocka_unit_test(a_frame_sent_back_is_refused),
        cmocka_unit_test(a_frame_of_another_connection_is_refused),
        cmocka_unit_test(a_handshake_sent_back_is_refused),
        cmocka_unit_test(an_answer_to_an_older_challenge_is_refused),
        cmocka_unit_test(a_peer_with_another_token_is_refused),
        cmocka_unit_test(noise_is_refused_at_its_first_byte),
        cmocka_unit_test(an_overlong_frame_is_refused_at_its_length),
        cmocka_unit_test(the_longest_text_passes),
        cmocka_unit_test(tokens_are_written_and_read),
        cmocka_unit_test(names_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
