#include "collectives/flight_write.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "collectives/flight_view.h"

/* A segment of four records in a file of its own. */
struct fixture {
    int fd;
    struct trm_flight_segment *segment; /* the agent's view */
    struct trm_flight flight;           /* record 1, as rank 5 */
};

static int set_up(void **state)
{
    static struct fixture f;
    size_t bytes = trm_flight_segment_bytes(4);

    f.fd = memfd_create("flight", MFD_CLOEXEC);
    if (f.fd < 0 || ftruncate(f.fd, (off_t)bytes) != 0)
        return -1;
    f.segment = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, f.fd, 0);
    trm_flight_segment_init(f.segment, 4, 7);
    *state = &f;
    return trm_flight_map(f.fd, 1, 5, &f.flight, NULL);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    trm_flight_unmap(&f->flight);
    munmap(f->segment, trm_flight_segment_bytes(4));
    return close(f->fd);
}

static void map_claims_one_record(void **state)
{
    const struct fixture *f = *state;
    const struct trm_flight_record *record = &f->segment->records[1];

    assert_int_equal(record->state, TRM_FLIGHT_RUNNING);
    assert_int_equal(record->rank, 5);
    assert_int_equal(record->pid, getpid());
    assert_int_not_equal(record->pid_space, 0);
    assert_int_equal(record->phase, TRM_PHASE_STARTUP);
    assert_int_equal(record->step, -1);
    assert_int_equal(record->memory_step, -1);
    assert_int_equal(record->disk_step, -1);
    for (int i = 0; i < 4; i++)
        if (i != 1)
            assert_int_equal(f->segment->records[i].state, TRM_FLIGHT_EMPTY);
}

static void map_refuses_a_record_that_has_an_owner_or_is_none(void **state)
{
    const struct fixture *f = *state;
    static const int indexes[] = {1, -1, 4, 1 << 30};

    for (unsigned i = 0; i < sizeof indexes / sizeof *indexes; i++) {
        struct trm_flight other = {0};
        struct trm_error error;
        assert_int_equal(trm_flight_map(f->fd, indexes[i], 0, &other, &error), TRM_ERR_MISMATCH);
        assert_null(other.segment);
    }
}

static void map_refuses_what_is_no_segment(void **state)
{
    const struct fixture *f = *state;
    struct trm_flight other;

    f->segment->capacity = 5; /* more than the file holds */
    assert_int_equal(trm_flight_map(f->fd, 2, 0, &other, NULL), TRM_ERR_MISMATCH);
    f->segment->capacity = 0;
    assert_int_equal(trm_flight_map(f->fd, 2, 0, &other, NULL), TRM_ERR_MISMATCH);
    f->segment->capacity = 4;
    f->segment->magic++;
    assert_int_equal(trm_flight_map(f->fd, 2, 0, &other, NULL), TRM_ERR_MISMATCH);
    f->segment->magic--;
    assert_int_equal(ftruncate(f->fd, 100), 0);
    assert_int_equal(trm_flight_map(f->fd, 2, 0, &other, NULL), TRM_ERR_MISMATCH);
    assert_int_equal(ftruncate(f->fd, (off_t)trm_flight_segment_bytes(4)), 0);
    assert_int_not_equal(trm_flight_map(-1, 2, 0, &other, NULL), TRM_OK);
}

static void what_a_rank_writes_is_seen_by_another_process(void **state)
{
    struct fixture *f = *state;
    const struct trm_flight_record *record = &f->segment->records[2];
    int status;
    pid_t child = fork();

    if (child == 0) {
        struct trm_flight mine;
        struct trm_flight_step step = {
            .step = 12, .samples = 96, .step_ns = 5000, .compute_ns = 4000, .loss = 2.5};
        if (trm_flight_map(f->fd, 2, 9, &mine, NULL) != TRM_OK)
            _exit(1);
        trm_flight_mesh(&mine, 8, 4, 2);
        trm_flight_phase(&mine, TRM_PHASE_FORWARD);
        trm_flight_step(&mine, &step);
        trm_flight_memory_step(&mine, 11);
        trm_flight_disk_step(&mine, 10);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(record->state, TRM_FLIGHT_RUNNING);
    assert_int_equal(record->pid, child);
    assert_int_equal(record->rank, 9);
    assert_int_equal(record->world_size, 8);
    assert_int_equal(record->data_size, 4);
    assert_int_equal(record->tensor_size, 2);
    assert_int_equal(record->phase, TRM_PHASE_FORWARD);
    assert_in_range(record->phase_since_ns, 1, trm_clock_now_ns());
    assert_int_equal(record->step, 12);
    assert_int_equal(record->samples, 96);
    assert_int_equal(record->step_ns, 5000);
    assert_int_equal(record->compute_ns, 4000);
    assert_int_equal(record->memory_step, 11);
    assert_int_equal(record->disk_step, 10);
    double loss = 2.5;
    assert_memory_equal(&record->loss_bits, &loss, sizeof loss);
}

static void collectives_are_numbered_and_waits_are_summed(void **state)
{
    struct fixture *f = *state;
    struct trm_flight_lane *lane = trm_flight_lane(&f->flight, TRM_FLIGHT_DATA);

    assert_ptr_equal(lane, &f->flight.record->lanes[TRM_FLIGHT_DATA]);
    assert_int_equal(trm_flight_enter(lane, TRM_FLIGHT_EXCHANGE), 1);
    assert_int_equal(trm_flight_enter(lane, TRM_FLIGHT_ALL_GATHER), 2);
    assert_int_equal(lane->operation, TRM_FLIGHT_ALL_GATHER);
    assert_int_equal(lane->waiting, 0);
    trm_flight_wait_begin(lane, 1, TRM_FLIGHT_EXCHANGE);
    assert_int_equal(lane->waiting, 1);
    assert_int_equal(lane->operation, TRM_FLIGHT_EXCHANGE);
    usleep(2000);
    trm_flight_wait_end(lane);
    trm_flight_complete(lane);
    assert_int_equal(lane->waiting, 0);
    assert_int_equal(lane->entered, 2);
    assert_int_equal(lane->completed, 1);
    assert_in_range(trm_flight_waited_ns(&f->flight), 2000000, trm_clock_now_ns());
}

static void the_first_exit_stands_and_its_text_is_cut_to_fit(void **state)
{
    struct fixture *f = *state;
    const struct trm_flight_record *record = f->flight.record;
    char text[2 * TRM_FLIGHT_TEXT_BYTES];

    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    trm_flight_exit(&f->flight, TRM_ERR_CONFIG, TRM_EXIT_CONFIG, text);
    trm_flight_exit(&f->flight, TRM_OK, 0, NULL);
    assert_int_equal(record->state, TRM_FLIGHT_EXITED);
    assert_int_equal(record->phase, TRM_PHASE_EXIT);
    assert_int_equal(record->exit_status, TRM_ERR_CONFIG);
    assert_int_equal(record->exit_code, TRM_EXIT_CONFIG);
    assert_int_equal(strlen(record->exit_text), TRM_FLIGHT_TEXT_BYTES - 1);
}

static void a_lease_lapses_when_its_time_comes(void **state)
{
    struct fixture *f = *state;

    assert_false(trm_flight_lease_lapsed(&f->flight)); /* there is none */
    f->segment->lease_until_ns = trm_flight_boot_ns() + INT64_C(3600) * 1000000000;
    assert_false(trm_flight_lease_lapsed(&f->flight));
    f->segment->lease_until_ns = trm_flight_boot_ns();
    assert_true(trm_flight_lease_lapsed(&f->flight));
}

static void a_stop_is_asked_for_through_the_head(void **state)
{
    struct fixture *f = *state;

    assert_false(trm_flight_stop_requested(&f->flight));
    f->segment->request = TRM_FLIGHT_STOP;
    assert_true(trm_flight_stop_requested(&f->flight));
}

static void a_view_has_ages_and_the_process_its_state(void **state)
{
    struct fixture *f = *state;
    struct trm_flight_step step = {
        .step = 12, .samples = 96, .step_ns = 5000000, .compute_ns = 4000000, .loss = 2.5};
    struct trm_flight_lane *lane = trm_flight_lane(&f->flight, TRM_FLIGHT_TENSOR);
    struct trm_flight_view view;
    int64_t now;

    trm_flight_phase(&f->flight, TRM_PHASE_BACKWARD);
    trm_flight_step(&f->flight, &step);
    trm_flight_mesh(&f->flight, 8, 4, 2);
    trm_flight_wait_begin(lane, trm_flight_enter(lane, TRM_FLIGHT_ALL_REDUCE),
                          TRM_FLIGHT_ALL_REDUCE);
    now = lane->since_ns + 250000000;
    trm_flight_view(f->flight.record, now, &view);
    assert_int_equal(view.state, TRM_FLIGHT_RUNNING);
    assert_int_equal(view.rank, 5);
    assert_int_equal(view.world_size, 8);
    assert_int_equal(view.data_size, 4);
    assert_int_equal(view.tensor_size, 2);
    assert_int_equal(view.pid, getpid());
    assert_int_equal(view.process, '?');
    assert_int_equal(view.phase, TRM_PHASE_BACKWARD);
    assert_in_range(view.phase_age_ms, 250, 60000);
    assert_int_equal(view.step, 12);
    assert_int_equal(view.samples, 96);
    assert_true(view.step_ms == 5 && view.compute_ms == 4 && view.loss == 2.5);
    assert_int_equal(view.lanes[TRM_FLIGHT_TENSOR].waiting, 1);
    assert_int_equal(view.lanes[TRM_FLIGHT_TENSOR].age_ms, 250);
    assert_int_equal(view.lanes[TRM_FLIGHT_TENSOR].operation, TRM_FLIGHT_ALL_REDUCE);
    assert_int_equal(view.lanes[TRM_FLIGHT_DATA].age_ms, 0); /* never used */
    trm_flight_view(f->flight.record, 1, &view);             /* a time before */
    assert_int_equal(view.phase_age_ms, 0);
}

static void exit_texts_are_made_valid(void **state)
{
    static const struct {
        const char *written, *seen;
    } cases[] = {
        {"could not open \"\xC3\xA4.bin\"", "could not open \"\xC3\xA4.bin\""},
        {"line\nline\x7F", "line?line?"},
        {"\xC3", "?"},                /* cut */
        {"\xC0\xAF", "??"},           /* overlong */
        {"\xED\xA0\x80", "???"},      /* a surrogate */
        {"\xF4\x90\x80\x80", "????"}, /* beyond the last */
        {"\xE2\x82\xAC\xF0\x9F\x9A\xA3", "\xE2\x82\xAC\xF0\x9F\x9A\xA3"},
    };
    struct fixture *f = *state;
    struct trm_flight_view view;

    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        f->flight.record->state = TRM_FLIGHT_RUNNING;
        f->flight.record->exit_claimed = 0;
        trm_flight_exit(&f->flight, TRM_ERR_INPUT, 78, cases[i].written);
        trm_flight_view(f->flight.record, 1, &view);
        assert_string_equal(view.exit_text, cases[i].seen);
        assert_int_equal(view.exit_code, 78);
        assert_int_equal(view.exit_status, TRM_ERR_INPUT);
    }
    memset(f->flight.record->exit_text, 'x', TRM_FLIGHT_TEXT_BYTES); /* no NUL: it is shared */
    trm_flight_view(f->flight.record, 1, &view);
    assert_int_equal(strlen(view.exit_text), TRM_FLIGHT_TEXT_BYTES - 1);
}

static void processes_are_seen_running_stopped_and_gone(void **state)
{
    pid_t child = fork();
    (void)state;

    if (child == 0)
        for (;;)
            pause();
    assert_int_equal(kill(child, SIGSTOP), 0);
    assert_int_equal(waitpid(child, NULL, WUNTRACED), child);
    assert_int_equal(trm_flight_process(child), 'T');
    assert_int_equal(kill(child, SIGKILL), 0);
    while (trm_flight_process(child) != 'X')
        ; /* a zombie, until it is waited for */
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(trm_flight_process(child), 'X');
    assert_int_equal(trm_flight_process(getpid()), 'R');
    assert_int_equal(trm_flight_process(0), '?');
    assert_int_equal(trm_flight_process(-1), '?');
}

static void without_a_record_every_call_does_nothing(void **state)
{
    struct trm_flight none = {0};
    struct trm_flight_step step = {.step = 1};
    struct trm_flight *cases[] = {&none, NULL};
    (void)state;

    for (int i = 0; i < 2; i++) {
        trm_flight_phase(cases[i], TRM_PHASE_FORWARD);
        trm_flight_mesh(cases[i], 1, 1, 1);
        trm_flight_step(cases[i], &step);
        trm_flight_memory_step(cases[i], 1);
        trm_flight_disk_step(cases[i], 1);
        trm_flight_exit(cases[i], TRM_OK, 0, "");
        assert_null(trm_flight_lane(cases[i], TRM_FLIGHT_WORLD));
        assert_false(trm_flight_stop_requested(cases[i]));
        assert_int_equal(trm_flight_waited_ns(cases[i]), 0);
        trm_flight_unmap(cases[i]);
    }
    assert_false(trm_flight_lease_lapsed(&none));
    assert_int_equal(trm_flight_enter(NULL, TRM_FLIGHT_BARRIER), 0);
    trm_flight_wait_begin(NULL, 1, TRM_FLIGHT_BARRIER);
    trm_flight_wait_end(NULL);
    trm_flight_complete(NULL);
}

static void every_number_has_a_name(void **state)
{
    (void)state;
    for (int i = 0; i < TRM_PHASE_COUNT; i++)
        assert_string_not_equal(trm_phase_name((enum trm_phase)i), "unknown");
    for (int i = 0; i < TRM_FLIGHT_GROUPS; i++)
        assert_string_not_equal(trm_flight_group_name((enum trm_flight_group)i), "unknown");
    for (int i = 0; i < TRM_FLIGHT_OPERATION_COUNT; i++)
        assert_string_not_equal(trm_flight_operation_name((enum trm_flight_operation)i), "unknown");
    assert_string_equal(trm_phase_name(TRM_PHASE_COUNT), "unknown");
    assert_string_equal(trm_flight_group_name((enum trm_flight_group) - 1), "unknown");
    assert_string_equal(trm_flight_operation_name(TRM_FLIGHT_OPERATION_COUNT), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(map_claims_one_record, set_up, tear_down),
        cmocka_unit_test_setup_teardown(map_refuses_a_record_that_has_an_owner_or_is_none, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(map_refuses_what_is_no_segment, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_a_rank_writes_is_seen_by_another_process, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(collectives_are_numbered_and_waits_are_summed, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(the_first_exit_stands_and_its_text_is_cut_to_fit, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_lease_lapses_when_its_time_comes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_stop_is_asked_for_through_the_head, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_view_has_ages_and_the_process_its_state, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(exit_texts_are_made_valid, set_up, tear_down),
        cmocka_unit_test(processes_are_seen_running_stopped_and_gone),
        cmocka_unit_test(without_a_record_every_call_does_nothing),
        cmocka_unit_test(every_number_has_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
