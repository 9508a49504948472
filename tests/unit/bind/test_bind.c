#include "trainer/bind/bind.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define RANKS 2

static int first_two(const struct trm_bind_place *place, int cores[RANKS])
{
    int count = 0;
    for (int i = 0; i < TRM_BIND_MASK_WORDS * 64 && count < RANKS; i++)
        if (place->mask[i / 64] >> (i % 64) & 1)
            cores[count++] = i;
    return count;
}

/* In a child, bound to the first two processors: each rank takes one of them. 77: there is one. */
static int divide(bool apply)
{
    struct trm_bind_place places[RANKS], after;
    struct trm_bound bound;
    cpu_set_t set;
    int cores[RANKS];
    if (trm_bind_look(&places[0], NULL) != TRM_OK)
        return 1;
    if (first_two(&places[0], cores) < RANKS)
        return 77;
    CPU_ZERO(&set);
    CPU_SET((size_t)cores[0], &set);
    CPU_SET((size_t)cores[1], &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0 || trm_bind_look(&places[0], NULL) != TRM_OK)
        return 2;
    places[1] = places[0];
    if (trm_bind(places, RANKS, 1, apply, &bound, NULL) != TRM_OK)
        return 3;
    if (sched_getaffinity(0, sizeof set, &set) != 0 || trm_bind_look(&after, NULL) != TRM_OK)
        return 4;
    if (bound.bound != apply || bound.threads != 1 || strncmp(bound.text, "cores ", 6) != 0)
        return 5;
    if (!apply)
        return memcmp(&after, &places[0], sizeof after) == 0 ? 0 : 6;
    return CPU_COUNT(&set) == 1 && CPU_ISSET((size_t)cores[1], &set) ? 0 : 7;
}

static void expect_child(bool apply)
{
    int status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(divide(apply));
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        print_message("one processor can't be divided\n");
        skip();
    }
    assert_int_equal(status, 0);
}

static void ranks_of_this_machine_divide_what_they_may_use(void **state)
{
    (void)state;
    expect_child(true);
}

static void binding_is_left_to_others_where_that_is_wanted(void **state)
{
    (void)state;
    expect_child(false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_of_this_machine_divide_what_they_may_use),
        cmocka_unit_test(binding_is_left_to_others_where_that_is_wanted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
