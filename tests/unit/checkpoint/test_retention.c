/* What may go, by enumeration. */
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "checkpoint/retention.h"

/* The steps that stay, as text; items are given as "step[v][=loss]". */
static const char *decide(struct trm_retention rules, const char *given, char out[256])
{
    struct trm_retention_item items[32];
    int count = 0, may_go, gone = 0;
    char copy[256];
    snprintf(copy, sizeof(copy), "%s", given);
    for (char *word = strtok(copy, " "); word != NULL; word = strtok(NULL, " ")) {
        int64_t step = 0;
        int length = 0;
        double loss = NAN;
        assert_int_equal(sscanf(word, "%" SCNd64 "%n", &step, &length), 1);
        bool verified = word[length] == 'v';
        if (strchr(word, '=') != NULL)
            assert_int_equal(sscanf(strchr(word, '=') + 1, "%lf", &loss), 1);
        items[count++] =
            (struct trm_retention_item){.step = step, .verified = verified, .valid_loss = loss};
    }
    may_go = trm_retention_decide(&rules, items, count);
    out[0] = '\0';
    for (int i = 0; i < count; i++) {
        if (items[i].keep)
            snprintf(out + strlen(out), 256 - strlen(out), "%s%lld", out[0] ? " " : "",
                     (long long)items[i].step);
        gone += !items[i].keep;
    }
    assert_int_equal(may_go, gone);
    return out;
}

static void the_rules_keep_what_they_name(void **state)
{
    (void)state;
    static const struct {
        struct trm_retention rules; /* latest, every, best */
        const char *given, *kept;
    } cases[] = {
        {{0, 0, 0}, "1v 2v 3v 4v", "1 2 3 4"},
        {{3, 0, 0}, "1v 2v 3v 4v 5v", "3 4 5"},
        {{3, 0, 0}, "1 2 3 4v 5v", "3 4 5"},
        {{1, 0, 0}, "1v 2v 3v 4v 5v", "4 5"},
        {{1, 0, 0}, "5v 4v 3v 2v 1v", "5 4"},
        /* Fewer than two verified ones: nothing goes. */
        {{1, 0, 0}, "1 2 3 4 5v", "1 2 3 4 5"},
        {{1, 0, 0}, "", ""},
        /* The newest two verified ones stay, however old. */
        {{1, 0, 0}, "1v 2v 3 4 5", "1 2 5"},
        {{2, 0, 0}, "1v 2 3v 4 5", "1 3 4 5"},
        {{2, 10, 0}, "5v 10v 15v 20v 25v 30v", "10 20 25 30"},
        {{2, 7, 0}, "0v 5v 10v 15v", "0 10 15"},
        {{2, 0, 1}, "1v=3 2v=1 3v=2 4v=5 5v=4", "2 4 5"},
        {{2, 0, 2}, "1v=3 2v=1 3v=2 4v=5 5v=4", "2 3 4 5"},
        /* Without a loss there is no best. */
        {{2, 0, 2}, "1v 2v 3v 4v", "3 4"},
        {{2, 0, 1}, "1v 2v=9 3v 4v", "2 3 4"},
        /* Later ones carry a loss on: the one it was measured at counts. */
        {{2, 0, 1}, "1v=3 2v=2 3v=2 4v=2 5v=7 6v=7", "2 5 6"},
        {{2, 3, 1}, "1v=1 2v 3v 4v 5v 6v 7v", "1 3 6 7"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char out[256];
        assert_string_equal(decide(cases[i].rules, cases[i].given, out), cases[i].kept);
    }
}

/* Every subset of verified steps, every small rule: the newest two verified ones never go. */
static void the_newest_two_verified_ones_stay_under_any_rule(void **state)
{
    (void)state;
    for (unsigned mask = 0; mask < 64; mask++)
        for (int latest = 0; latest < 5; latest++) {
            struct trm_retention rules = {latest, 0, latest % 2};
            struct trm_retention_item items[6];
            int verified = 0;
            for (int i = 0; i < 6; i++)
                items[i] = (struct trm_retention_item){
                    .step = i, .verified = (mask >> i) & 1, .valid_loss = i};
            int gone = trm_retention_decide(&rules, items, 6);
            for (int i = 5; i >= 0; i--)
                if (items[i].verified && verified++ < 2)
                    assert_true(items[i].keep);
            assert_true(verified >= 2 || gone == 0);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rules_keep_what_they_name),
        cmocka_unit_test(the_newest_two_verified_ones_stay_under_any_rule),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
