#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static void time_never_goes_back(void **state)
{
    (void)state;
    int64_t last = trm_clock_now_ns();
    for (int i = 0; i < 100000; i++) {
        int64_t now = trm_clock_now_ns();
        assert_true(now >= last);
        last = now;
    }
}

static void a_deadline_passes_after_its_timeout_and_not_before(void **state)
{
    (void)state;
    int64_t before_ns = trm_clock_now_ns();
    int64_t deadline_ns = trm_clock_deadline_ns(20);
    int64_t after_ns = trm_clock_now_ns();
    assert_true(deadline_ns >= before_ns + 20000000);
    assert_true(deadline_ns <= after_ns + 20000000);
    assert_true(trm_clock_passed(trm_clock_deadline_ns(0)));
    assert_false(trm_clock_passed(trm_clock_deadline_ns(3600000)));
    struct timespec nap = {0, 25000000};
    while (nanosleep(&nap, &nap) != 0)
        ;
    assert_true(trm_clock_passed(deadline_ns));
}

static void a_negative_or_endless_timeout_never_passes(void **state)
{
    (void)state;
    const int64_t timeouts_ms[] = {-1, INT64_MIN, INT64_MAX, INT64_MAX / 1000000};
    for (size_t i = 0; i < sizeof timeouts_ms / sizeof *timeouts_ms; i++) {
        assert_int_equal(trm_clock_deadline_ns(timeouts_ms[i]), INT64_MAX);
        assert_false(trm_clock_passed(trm_clock_deadline_ns(timeouts_ms[i])));
    }
}

static void utc_is_written_as_iso_8601(void **state)
{
    (void)state;
    time_t before = time(NULL);
    char text[21];
    trm_clock_utc(text, sizeof text);
    assert_int_equal(strlen(text), 20);
    struct tm utc = {0};
    char zone = 0;
    assert_int_equal(sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d%c", &utc.tm_year, &utc.tm_mon,
                            &utc.tm_mday, &utc.tm_hour, &utc.tm_min, &utc.tm_sec, &zone),
                     7);
    assert_int_equal(zone, 'Z');
    utc.tm_year -= 1900;
    utc.tm_mon -= 1;
    time_t written = timegm(&utc);
    assert_true(written >= before && written <= time(NULL));
}

static void utc_in_seconds_is_the_time_of_other_programs(void **state)
{
    (void)state;
    struct timespec before, after; /* of time(), which lags behind by a tick, not */
    clock_gettime(CLOCK_REALTIME, &before);
    double seconds = trm_clock_utc_s();
    clock_gettime(CLOCK_REALTIME, &after);
    assert_true(seconds >= (double)before.tv_sec && seconds <= (double)after.tv_sec + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(time_never_goes_back),
        cmocka_unit_test(a_deadline_passes_after_its_timeout_and_not_before),
        cmocka_unit_test(a_negative_or_endless_timeout_never_passes),
        cmocka_unit_test(utc_is_written_as_iso_8601),
        cmocka_unit_test(utc_in_seconds_is_the_time_of_other_programs),
    };
    return cmocka_run_group_tests_name("base/clock", tests, NULL, NULL);
}
