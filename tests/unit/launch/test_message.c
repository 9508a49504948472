#include "launch/link/message.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "launch/link/wire.h"

static bool from_agent(enum trm_message_type type)
{
    return type < TRM_MESSAGE_ACK;
}

/* Writes it, reads it as what the other side gets. */
static struct trm_message travel(const struct trm_message *message)
{
    char *text = NULL;
    size_t bytes = 0;
    struct trm_message out;
    struct trm_error err = {0};
    assert_int_equal(trm_message_encode(message, &text, &bytes, &err), TRM_OK);
    assert_int_equal(bytes, strlen(text));
    if (trm_message_decode(from_agent(message->type), text, bytes, &out, &err) != TRM_OK)
        fail_msg("%s", err.text);
    assert_int_equal(out.type, message->type);
    /* The other side never sends it. */
    struct trm_message refused;
    assert_int_equal(trm_message_decode(!from_agent(message->type), text, bytes, &refused, &err),
                     TRM_ERR_CORRUPT);
    free(text);
    return out;
}

static struct trm_rank_report busy_rank(int rank)
{
    struct trm_rank_report report = {
        .rank = rank,
        .local_rank = rank % TRM_FLIGHT_MAX_RANKS,
        .pid = 4194304,
        .state = TRM_FLIGHT_EXITED,
        .connected = true,
        .process = 'D',
        .signal = 64,
        .phase = TRM_PHASE_EXIT,
        .phase_age_ms = TRM_REPORT_MAX_COUNT,
        .step = TRM_REPORT_MAX_COUNT,
        .samples = TRM_REPORT_MAX_COUNT,
        .step_ns = TRM_REPORT_MAX_COUNT,
        .compute_ns = TRM_REPORT_MAX_COUNT,
        .loss = -1.2345678901234567e-300,
        .memory_step = -1,
        .disk_step = TRM_REPORT_MAX_COUNT,
        .resumed_step = TRM_REPORT_MAX_COUNT,
        .restore_ns = TRM_REPORT_MAX_COUNT,
        .resumed_from = TRM_RESUMED_MEMORY,
        .blamed_rank = INT32_MAX,
        .world_size = INT32_MAX,
        .data_size = INT32_MAX,
        .tensor_size = INT32_MAX,
        .exit_status = TRM_ERR_STOPPED,
        .exit_code = 255,
    };
    for (int i = 0; i < TRM_FLIGHT_GROUPS; i++)
        report.lanes[i] = (struct trm_rank_lane){.entered = TRM_REPORT_MAX_COUNT,
                                                 .completed = TRM_REPORT_MAX_COUNT - 1,
                                                 .waiting = TRM_REPORT_MAX_COUNT,
                                                 .age_ms = TRM_REPORT_MAX_COUNT - 2,
                                                 .waited_ms = TRM_REPORT_MAX_COUNT - 3,
                                                 .operation = TRM_FLIGHT_REDUCE_SCATTER};
    memset(report.exit_text, '"', sizeof report.exit_text - 1);
    return report;
}

static void expect_same_rank(const struct trm_rank_report *a, const struct trm_rank_report *b)
{
    assert_int_equal(a->rank, b->rank);
    assert_int_equal(a->local_rank, b->local_rank);
    assert_int_equal(a->pid, b->pid);
    assert_int_equal(a->state, b->state);
    assert_int_equal(a->connected, b->connected);
    assert_int_equal(a->process, b->process);
    assert_int_equal(a->signal, b->signal);
    assert_int_equal(a->phase, b->phase);
    assert_int_equal(a->phase_age_ms, b->phase_age_ms);
    assert_int_equal(a->step, b->step);
    assert_int_equal(a->samples, b->samples);
    assert_int_equal(a->step_ns, b->step_ns);
    assert_int_equal(a->compute_ns, b->compute_ns);
    assert_memory_equal(&a->loss, &b->loss, sizeof a->loss);
    assert_int_equal(a->memory_step, b->memory_step);
    assert_int_equal(a->disk_step, b->disk_step);
    assert_int_equal(a->resumed_step, b->resumed_step);
    assert_int_equal(a->restore_ns, b->restore_ns);
    assert_int_equal(a->resumed_from, b->resumed_from);
    assert_int_equal(a->blamed_rank, b->blamed_rank);
    assert_int_equal(a->world_size, b->world_size);
    assert_int_equal(a->data_size, b->data_size);
    assert_int_equal(a->tensor_size, b->tensor_size);
    for (int i = 0; i < TRM_FLIGHT_GROUPS; i++) {
        assert_int_equal(a->lanes[i].entered, b->lanes[i].entered);
        assert_int_equal(a->lanes[i].completed, b->lanes[i].completed);
        assert_int_equal(a->lanes[i].age_ms, b->lanes[i].age_ms);
        assert_int_equal(a->lanes[i].operation, b->lanes[i].operation);
        assert_int_equal(a->lanes[i].waiting, b->lanes[i].waiting);
        assert_int_equal(a->lanes[i].waited_ms, b->lanes[i].waited_ms);
    }
    assert_int_equal(a->exit_status, b->exit_status);
    assert_int_equal(a->exit_code, b->exit_code);
    assert_string_equal(a->exit_text, b->exit_text);
}

static void the_largest_beat_fits_a_frame_and_comes_through_whole(void **state)
{
    (void)state;
    struct trm_message beat = {.type = TRM_MESSAGE_BEAT};
    beat.beat.number = 12;
    beat.beat.attempt = 3;
    beat.beat.dead = 2;
    beat.beat.slots = 4;
    beat.beat.slot_bytes = INT64_C(1) << 40;
    beat.beat.launcher = TRM_LAUNCHER_STOPPED;
    beat.beat.rank_count = TRM_FLIGHT_MAX_RANKS;
    beat.beat.ranks = calloc(TRM_FLIGHT_MAX_RANKS, sizeof *beat.beat.ranks);
    assert_non_null(beat.beat.ranks);
    for (int i = 0; i < TRM_FLIGHT_MAX_RANKS; i++)
        beat.beat.ranks[i] = busy_rank(INT32_MAX - i);
    char *text = NULL;
    size_t bytes = 0;
    assert_int_equal(trm_message_encode(&beat, &text, &bytes, NULL), TRM_OK);
    assert_true(bytes <= TRM_WIRE_TEXT_BYTES);
    free(text);
    struct trm_message out = travel(&beat);
    assert_int_equal(out.beat.number, 12);
    assert_int_equal(out.beat.attempt, 3);
    assert_int_equal(out.beat.dead, 2);
    assert_int_equal(out.beat.slots, 4);
    assert_int_equal(out.beat.slot_bytes, INT64_C(1) << 40);
    assert_int_equal(out.beat.launcher, TRM_LAUNCHER_STOPPED);
    assert_int_equal(out.beat.rank_count, TRM_FLIGHT_MAX_RANKS);
    for (int i = 0; i < TRM_FLIGHT_MAX_RANKS; i++)
        expect_same_rank(&out.beat.ranks[i], &beat.beat.ranks[i]);
    trm_message_clear(&out);
    trm_message_clear(&beat);
}

static void a_loss_that_is_no_number_travels_as_nan(void **state)
{
    (void)state;
    const double losses[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < sizeof losses / sizeof *losses; i++) {
        struct trm_rank_report rank = {.process = 'R', .loss = losses[i]};
        struct trm_message beat = {.type = TRM_MESSAGE_BEAT};
        beat.beat.rank_count = 1;
        beat.beat.ranks = &rank;
        struct trm_message out = travel(&beat);
        assert_true(isnan(out.beat.ranks[0].loss));
        trm_message_clear(&out);
    }
}

static void a_hello_comes_through_whole(void **state)
{
    (void)state;
    struct trm_message hello = {.type = TRM_MESSAGE_HELLO};
    hello.hello = (struct trm_message_hello){.protocol = 1,
                                             .number = 5,
                                             .attempt = 4,
                                             .dead = 3,
                                             .orphans = true,
                                             .pid = 77,
                                             .cores = 8,
                                             .memory_bytes = INT64_C(1) << 36,
                                             .slots = 2,
                                             .slot_bytes = 4096,
                                             .run_id = "run",
                                             .hostname = "node2",
                                             .boot_id = "b-1",
                                             .version = "0.1.0"};
    struct trm_message out = travel(&hello);
    assert_memory_equal(&out.hello, &hello.hello, sizeof out.hello);
}

static void small_messages_come_through_whole(void **state)
{
    (void)state;
    struct trm_message m = {.type = TRM_MESSAGE_GONE};
    m.gone = (struct trm_message_gone){
        .attempt = 2, .pid = 9, .step = 118, .rank = 3, .phase = TRM_PHASE_BACKWARD};
    struct trm_message out = travel(&m);
    assert_memory_equal(&out.gone, &m.gone, sizeof out.gone);

    const enum trm_message_type with_attempt[] = {TRM_MESSAGE_DEAD, TRM_MESSAGE_STOP};
    for (int i = 0; i < 2; i++) {
        m = (struct trm_message){.type = with_attempt[i]};
        m.attempt = 41;
        assert_int_equal(travel(&m).attempt, 41);
    }
    m = (struct trm_message){.type = TRM_MESSAGE_ACK};
    m.number = 17;
    assert_int_equal(travel(&m).number, 17);
    m = (struct trm_message){.type = TRM_MESSAGE_BEGIN};
    m.begin = (struct trm_message_begin){.attempt = 6, .capacity = 8, .domain = "rack 1"};
    out = travel(&m);
    assert_int_equal(out.begin.attempt, 6);
    assert_int_equal(out.begin.capacity, 8);
    assert_string_equal(out.begin.domain, "rack 1");
    m = (struct trm_message){.type = TRM_MESSAGE_BEGUN};
    m.begun = (struct trm_message_begun){.attempt = 6, .ok = false, .reason = "not dead"};
    out = travel(&m);
    assert_false(out.begun.ok);
    assert_string_equal(out.begun.reason, "not dead");
    m = (struct trm_message){.type = TRM_MESSAGE_KILL};
    m.kill = (struct trm_message_kill){.attempt = 6, .reason = "rank 3 hangs"};
    assert_string_equal(travel(&m).kill.reason, "rank 3 hangs");
    m = (struct trm_message){.type = TRM_MESSAGE_BYE};
    travel(&m);
    m = (struct trm_message){.type = TRM_MESSAGE_QUIT};
    travel(&m);
}

static void checks_and_their_answers_come_through_whole(void **state)
{
    (void)state;
    char *arguments[] = {"trireme-train", "--self-test", "a b", ""};
    struct trm_message m = {.type = TRM_MESSAGE_CHECK};
    m.check = (struct trm_message_check){.id = 3,
                                         .timeout_ms = 5000,
                                         .memory_bytes = INT64_C(1) << 40,
                                         .argument_count = 4,
                                         .arguments = arguments,
                                         .command = "test -e /scratch"};
    struct trm_message out = travel(&m);
    assert_int_equal(out.check.id, 3);
    assert_int_equal(out.check.timeout_ms, 5000);
    assert_int_equal(out.check.memory_bytes, INT64_C(1) << 40);
    assert_int_equal(out.check.argument_count, 4);
    for (int i = 0; i < 4; i++)
        assert_string_equal(out.check.arguments[i], arguments[i]);
    assert_string_equal(out.check.command, "test -e /scratch");
    trm_message_clear(&out);

    m = (struct trm_message){.type = TRM_MESSAGE_HEALTH};
    m.health = (struct trm_message_health){.id = 3, .ok = true, .took_ms = 18};
    snprintf(m.health.report, sizeof m.health.report, "line\nline\n");
    out = travel(&m);
    assert_true(out.health.ok);
    assert_string_equal(out.health.report, "line\nline\n");
}

static void texts_are_made_valid_and_cut(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"plain", "plain"},           {"a\x1b[31m\tb", "a?[31m?b"}, {"gr\xc3\xbc\xc3\x9f", "grüß"},
        {"bad \xff\xc3", "bad ??"},   {"\xed\xa0\x80", "???"},      {"\xc0\xaf", "??"},
        {"\xf4\x90\x80\x80", "????"}, {"\xe2\x82", "??"},
    };
    struct trm_message note = {.type = TRM_MESSAGE_NOTE};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(note.note.text, sizeof note.note.text, "%s", cases[i].in);
        assert_string_equal(travel(&note).note.text, cases[i].out);
    }
    memset(note.note.text, 'x', sizeof note.note.text); /* no NUL: the bound holds */
    assert_int_equal(strlen(travel(&note).note.text), sizeof note.note.text - 1);
}

static void unsound_messages_are_refused_with_the_key(void **state)
{
    (void)state;
    static const struct {
        bool from_agent;
        const char *text, *reason;
    } cases[] = {
        {true, "", "expected"},
        {true, "[]", "an array stands where an object"},
        {true, "{}", "\"type\" is missing"},
        {true, "{\"type\":3}", "\"type\" holds an integer"},
        {true, "{\"type\":\"heartbeat\"}", "sends no message \"heartbeat\""},
        {true, "{\"type\":\"quit\"}", "an agent sends no message \"quit\""},
        {false, "{\"type\":\"beat\"}", "a supervisor sends no message \"beat\""},
        {false, "{\"type\":\"aVeryLongTypeOfMessage\"}", "has 22 bytes"},
        {false, "{\"type\":\"ack\"}", "\"number\" is missing"},
        {false, "{\"type\":\"ack\",\"number\":-1}", "outside 0 to"},
        {false, "{\"type\":\"ack\",\"number\":1.5}", "a fraction"},
        {false, "{\"type\":\"ack\",\"number\":1e3}", "a fraction"},
        {false, "{\"type\":\"ack\",\"number\":9999999999999999}", "outside 0 to"},
        {false, "{\"type\":\"begin\",\"attempt\":0,\"capacity\":1}", "outside 1 to"},
        {false, "{\"type\":\"begin\",\"attempt\":1,\"capacity\":0}", "outside 1 to 1024"},
        {false, "{\"type\":\"begin\",\"attempt\":1,\"capacity\":1025}", "outside 1 to 1024"},
        {false, "{\"type\":\"begin\",\"attempt\":1,\"capacity\":1}", "\"domain\" is missing"},
        {false, "{\"type\":\"kill\",\"attempt\":1}", "\"reason\" is missing"},
        {false, "{\"type\":\"check\",\"id\":1,\"timeout_ms\":0}", "outside 1 to"},
        {false,
         "{\"type\":\"check\",\"id\":1,\"timeout_ms\":1,\"memory_bytes\":0,\"arguments\":[]}",
         "\"command\""},
        {false, "{\"type\":\"check\",\"id\":1,\"timeout_ms\":1}", "\"memory_bytes\" is missing"},
        {false,
         "{\"type\":\"check\",\"id\":1,\"timeout_ms\":1,\"memory_bytes\":0,\"command\":\"\","
         "\"arguments\":[\"a\",2]}",
         "\"arguments\" must be text"},
        {true, "{\"type\":\"begun\",\"attempt\":1,\"ok\":1,\"reason\":\"\"}", "true or false"},
        {true, "{\"type\":\"gone\",\"attempt\":1,\"rank\":0,\"pid\":1,\"step\":0,\"phase\":12}",
         "outside 0 to 11"},
        {true,
         "{\"type\":\"beat\",\"number\":1,\"attempt\":0,\"dead\":0,\"slots\":0,"
         "\"slot_bytes\":0,\"launcher\":\"dancing\",\"ranks\":[]}",
         "no state"},
        {true,
         "{\"type\":\"beat\",\"number\":1,\"attempt\":0,\"dead\":0,\"slots\":0,"
         "\"slot_bytes\":0,\"launcher\":\"none\",\"ranks\":[{}]}",
         "entry 0 of \"ranks\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct trm_message message;
        struct trm_error err = {0};
        assert_int_equal(trm_message_decode(cases[i].from_agent, cases[i].text,
                                            strlen(cases[i].text), &message, &err),
                         TRM_ERR_CORRUPT);
        if (!strstr(err.text, cases[i].reason))
            fail_msg("\"%s\" should say \"%s\"", err.text, cases[i].reason);
    }
}

/* Every number of a rank's report, too large by far: refused, each by its name. */
static void every_number_of_a_report_is_bounded(void **state)
{
    (void)state;
    static const char *const keys[] = {
        "rank",         "local",      "pid",          "state",      "phase",       "phase_age_ms",
        "step",         "samples",    "step_ns",      "compute_ns", "memory_step", "disk_step",
        "resumed_step", "restore_ns", "resumed_from", "blamed_rank"};
    struct trm_rank_report rank = {.process = 'S'}, out;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        struct trm_error err = {0};
        json_t *value = trm_report_to_json(&rank);
        assert_int_equal(trm_report_from_json(value, &out, &err), TRM_OK);
        json_object_set_new(value, keys[i], json_integer(INT64_MAX));
        assert_int_equal(trm_report_from_json(value, &out, &err), TRM_ERR_CORRUPT);
        assert_non_null(strstr(err.text, keys[i]));
        json_object_set_new(value, keys[i], json_integer(-2));
        assert_int_equal(trm_report_from_json(value, &out, &err), TRM_ERR_CORRUPT);
        json_decref(value);
    }
}

static void a_record_of_nonsense_is_brought_into_range(void **state)
{
    (void)state;
    static struct trm_flight_record record;
    memset((void *)&record, 0xA5, sizeof record);
    struct trm_rank_report report, out;
    trm_report_read(&record, 1000, &report);
    report.process = 'R';
    json_t *value = trm_report_to_json(&report);
    struct trm_error err = {0};
    if (trm_report_from_json(value, &out, &err) != TRM_OK)
        fail_msg("%s", err.text);
    json_decref(value);
    memset((void *)&record, 0x5A, sizeof record);
    trm_report_read(&record, INT64_MAX, &report);
    report.process = 'R';
    value = trm_report_to_json(&report);
    if (trm_report_from_json(value, &out, &err) != TRM_OK)
        fail_msg("%s", err.text);
    json_decref(value);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_largest_beat_fits_a_frame_and_comes_through_whole),
        cmocka_unit_test(a_loss_that_is_no_number_travels_as_nan),
        cmocka_unit_test(a_hello_comes_through_whole),
        cmocka_unit_test(small_messages_come_through_whole),
        cmocka_unit_test(checks_and_their_answers_come_through_whole),
        cmocka_unit_test(texts_are_made_valid_and_cut),
        cmocka_unit_test(unsound_messages_are_refused_with_the_key),
        cmocka_unit_test(every_number_of_a_report_is_bounded),
        cmocka_unit_test(a_record_of_nonsense_is_brought_into_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
