#include "base/machine.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void available_memory_is_some_and_no_more_than_the_machine_has(void **state)
{
    (void)state;
    uint64_t installed = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t available = trm_machine_available_bytes();
    assert_true(available > UINT64_C(1) << 20);
    assert_true(available <= installed);
}

static bool write_word(const char *path, const char *word)
{
    FILE *file = fopen(path, "we");
    bool written = file && fputs(word, file) >= 0;
    return file && fclose(file) == 0 && written;
}

/* In a child, inside of a control group with 64 MiB: 0 it says so, 1 it does not. */
static int available_in_a_group(const char *directory)
{
    char path[256];
    snprintf(path, sizeof path, "%s/cgroup.procs", directory);
    if (!write_word(path, "0"))
        return 77;
    uint64_t available = trm_machine_available_bytes();
    return available == 0 || available > UINT64_C(64) << 20;
}

static void available_memory_is_what_a_control_group_leaves(void **state)
{
    (void)state;
    static const struct {
        const char *mount, *limit;
    } trees[] = {{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"},
                 {"/sys/fs/cgroup", "memory.max"}};
    char directory[128], path[256];
    bool made = false;
    int status = 0;
    for (size_t i = 0; i < sizeof trees / sizeof *trees && !made; i++) {
        snprintf(directory, sizeof directory, "%s/trireme-test-%d", trees[i].mount, (int)getpid());
        snprintf(path, sizeof path, "%s/%s", directory, trees[i].limit);
        if (mkdir(directory, 0700) != 0)
            continue;
        made = write_word(path, "67108864");
        if (!made)
            rmdir(directory);
    }
    if (!made) {
        print_message("control groups of one's own take root\n");
        skip();
    }
    pid_t child = fork();
    if (child == 0)
        _exit(available_in_a_group(directory));
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(rmdir(directory), 0);
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void cores_follow_the_affinity_of_the_process(void **state)
{
    (void)state;
    cpu_set_t before, one;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    assert_int_equal(trm_machine_cores(), CPU_COUNT(&before));
    int first = 0;
    while (!CPU_ISSET(first, &before))
        first++;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(trm_machine_cores(), 1);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
}

/* In a child, under a name of its own where it may have one: 0 same id, 1 another, 77 may not. */
static int id_under(const char *name, uint64_t expected)
{
    if (name != NULL && (unshare(CLONE_NEWUTS) != 0 || sethostname(name, strlen(name)) != 0))
        return 77;
    return trm_machine_id() != expected;
}

static int child_id_under(const char *name, uint64_t expected)
{
    int status = 0;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(id_under(name, expected));
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void processes_of_a_machine_have_one_id(void **state)
{
    (void)state;
    assert_int_equal(child_id_under(NULL, trm_machine_id()), 0);
}

static void another_name_is_another_machine(void **state)
{
    (void)state;
    int code = child_id_under("trireme-elsewhere", trm_machine_id());
    if (code == 77) {
        print_message("another host name takes root\n");
        skip();
    }
    assert_int_equal(code, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(available_memory_is_some_and_no_more_than_the_machine_has),
        cmocka_unit_test(available_memory_is_what_a_control_group_leaves),
        cmocka_unit_test(cores_follow_the_affinity_of_the_process),
        cmocka_unit_test(processes_of_a_machine_have_one_id),
        cmocka_unit_test(another_name_is_another_machine),
    };
    return cmocka_run_group_tests_name("base/machine", tests, NULL, NULL);
}
