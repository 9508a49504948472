/* The requeue command against a scontrol, scancel and sleep that note how they were called. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/file.h"
#include "launch/slurm/requeue.h"

struct world {
    char root[64], path[128];
    char command[4096];
    int status; /* of the command, as wait tells it */
};

static void make_program(const struct world *world, const char *name, const char *body)
{
    char path[TRM_PATH_BYTES], text[1024];
    struct trm_error err;

    snprintf(path, sizeof path, "%s/%s", world->root, name);
    snprintf(text, sizeof text, "#!/bin/sh\necho \"%s $*\" >>'%s/calls'\n%s\n", name, world->root,
             body);
    assert_int_equal(trm_file_write_all(path, text, strlen(text), false, &err), TRM_OK);
    assert_int_equal(chmod(path, 0700), 0);
}

/* `show` is what scontrol shows, with "error:" as it fails; `requeue` what it then does; `sleep`
 * happens meanwhile. */
static void make_world(struct world *world, const char *show, const char *requeue,
                       const char *sleep)
{
    struct trm_slurm_job job = {.id = "17", .chain = "17", .restarts = 2};
    struct trm_error err;
    char body[512];

    snprintf(world->root, sizeof world->root, "/tmp/trireme-requeue-XXXXXX");
    assert_non_null(mkdtemp(world->root));
    snprintf(body, sizeof body,
             "case $1 in show) cat '%s/state'; ! grep -q error: '%s/state' ;; requeue) %s ;; esac",
             world->root, world->root, requeue);
    make_program(world, "scontrol", body);
    make_program(world, "scancel", "");
    make_program(world, "sleep", sleep);
    snprintf(body, sizeof body,
             "echo 'JobId=17 %s' >%s/state; mkdir %s/supervisor; touch %s/supervisor/status.json",
             show, world->root, world->root, world->root);
    assert_int_equal(system(body), 0);
    assert_int_equal(
        trm_requeue_command(&job, world->root, 3000, world->command, sizeof world->command, &err),
        TRM_OK);
}

/* Runs the command; what was called, a line each. Sets world->status. */
static const char *calls(struct world *world)
{
    static char text[1024];
    char path[TRM_PATH_BYTES], command[8192], *read;
    struct trm_error err;
    size_t bytes;

    snprintf(command, sizeof command, "cd %s; PATH=%s:$PATH; %s", world->root, world->root,
             world->command);
    world->status = system(command);
    assert_true(WIFEXITED(world->status));
    snprintf(path, sizeof path, "%s/calls", world->root);
    assert_int_equal(trm_file_read_all(path, sizeof text - 1, &read, &bytes, &err), TRM_OK);
    memcpy(text, read, bytes + 1);
    free(read);
    assert_int_equal(trm_file_remove_tree(world->root, &err), TRM_OK);
    return text;
}

#define RUNNING "JobState=RUNNING Reason=None Restarts=2 BatchFlag=1"
#define SHOW    "scontrol show job -o 17\n"

static void a_job_without_a_supervisor_is_requeued(void **state)
{
    struct world world;

    (void)state;
    make_world(&world, RUNNING, "exit 0", "");
    assert_string_equal(calls(&world), SHOW "sleep 5\n" SHOW "scontrol requeue 17\n");
    assert_int_equal(world.status, 0);
}

static void a_job_that_may_not_be_requeued_is_cancelled(void **state)
{
    struct world world;

    (void)state;
    make_world(&world, RUNNING, "exit 1", "");
    assert_string_equal(calls(&world),
                        SHOW "sleep 5\n" SHOW "scontrol requeue 17\n" SHOW "scancel 17\n");
    assert_int_equal(world.status, 0);
}

/* Requeued by another node: it must neither be requeued again nor cancelled. */
static void a_job_that_was_requeued_meanwhile_is_left_alone(void **state)
{
    struct world world;

    (void)state;
    make_world(&world, RUNNING, "exit 0", "echo 'JobState=PENDING Restarts=3 ' >state");
    assert_string_equal(calls(&world), SHOW "sleep 5\n" SHOW);
    assert_int_equal(world.status, 0);
    make_world(&world, RUNNING, "echo 'JobState=PENDING Restarts=3 ' >state; exit 1", "");
    assert_string_equal(calls(&world), SHOW "sleep 5\n" SHOW "scontrol requeue 17\n" SHOW);
    assert_int_equal(world.status, 0);
}

static void a_later_start_of_the_job_is_left_alone(void **state)
{
    struct world world;

    (void)state;
    make_world(&world, "JobState=RUNNING Reason=None Restarts=3 BatchFlag=1", "exit 0", "");
    assert_string_equal(calls(&world), SHOW);
    assert_int_equal(world.status, 0);
    make_world(&world, "JobState=RUNNING Reason=None Restarts=22 BatchFlag=1", "exit 0", "");
    assert_string_equal(calls(&world), SHOW);
    assert_int_equal(world.status, 0);
}

/* By its end, by its disappearance long after; not because the controller does not answer. */
static void a_job_that_is_over_needs_nobody(void **state)
{
    static const struct {
        const char *shown;
        bool over;
    } answers[] = {
        {"JobState=COMPLETED Reason=None Restarts=2 BatchFlag=1", true},
        {"JobState=COMPLETING Reason=None Restarts=2 BatchFlag=1", true},
        {"JobState=CANCELLED Reason=None Restarts=2 BatchFlag=1", true},
        {"JobState=SUSPENDED Reason=None Restarts=2 BatchFlag=1", false},
        {"slurm_load_jobs error: Invalid job id specified", true},
        {"slurm_load_jobs error: Unable to contact slurm controller (connect failure)", false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        struct world world;

        make_world(&world, answers[i].shown, "exit 0", "");
        assert_string_equal(calls(&world), SHOW);
        assert_int_equal(world.status == 0, answers[i].over);
    }
}

static void a_supervisor_that_writes_its_status_lives(void **state)
{
    struct world world;

    (void)state;
    make_world(&world, RUNNING, "exit 0", "cd supervisor; mv status.json old; cp old status.json");
    assert_string_equal(calls(&world), SHOW "sleep 5\n");
    assert_int_not_equal(world.status, 0); /* to be tried again */
}

static void a_run_with_an_odd_name_is_quoted(void **state)
{
    struct trm_slurm_job job = {.id = "17"};
    char command[1024];
    struct trm_error err;

    (void)state;
    assert_int_equal(
        trm_requeue_command(&job, "/runs/it's; rm -rf x", 800, command, sizeof command, &err),
        TRM_OK);
    assert_non_null(strstr(command, "status='/runs/it'\\''s; rm -rf x'/supervisor/status.json\n"));
    assert_int_equal(trm_requeue_command(&job, "/runs/x", 800, command, 40, &err), TRM_ERR_CONFIG);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_without_a_supervisor_is_requeued),
        cmocka_unit_test(a_job_that_may_not_be_requeued_is_cancelled),
        cmocka_unit_test(a_job_that_was_requeued_meanwhile_is_left_alone),
        cmocka_unit_test(a_later_start_of_the_job_is_left_alone),
        cmocka_unit_test(a_job_that_is_over_needs_nobody),
        cmocka_unit_test(a_supervisor_that_writes_its_status_lives),
        cmocka_unit_test(a_run_with_an_odd_name_is_quoted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
