/* The thread that saves: order, results, and what destroying it leaves undone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "checkpoint/snapshot.h"
#include "checkpoint/writer.h"

#define TASKS 200

/* What tasks note; read once they are done. */
struct log {
    int count;
    int order[TASKS + 1];
};

struct job {
    struct trm_task task;
    struct log *log;
    int number;
    atomic_bool *gate; /* waits for it; NULL: does not */
};

static void pause_ms(long ms)
{
    const struct timespec pause = {0, ms * 1000000};
    nanosleep(&pause, NULL);
}

static enum trm_status run(void *context, struct trm_error *err)
{
    struct job *job = context;
    while (job->gate != NULL && !atomic_load(job->gate))
        pause_ms(1);
    job->log->order[job->log->count++] = job->number;
    if (job->number % 7 == 3)
        return trm_error_set(err, TRM_ERR_IO, "task %d failed", job->number);
    return TRM_OK;
}

static void set_up_jobs(struct job *jobs, int count, struct log *log, atomic_bool *gate)
{
    memset(jobs, 0, (size_t)count * sizeof(*jobs));
    for (int i = 0; i < count; i++) {
        jobs[i].task.run = run;
        jobs[i].task.context = &jobs[i];
        jobs[i].log = log;
        jobs[i].number = i;
        jobs[i].gate = gate;
    }
}

static void wait_for(const struct trm_task *task)
{
    int64_t deadline = trm_clock_deadline_ns(60000);
    while (!trm_task_done(task)) {
        assert_false(trm_clock_passed(deadline));
        pause_ms(1);
    }
}

static void tasks_run_in_order_and_bring_their_own_results(void **state)
{
    (void)state;
    static struct job jobs[TASKS];
    struct log log = {0};
    struct trm_writer *writer = NULL;
    assert_int_equal(trm_writer_create(&writer, NULL), TRM_OK);
    set_up_jobs(jobs, TASKS, &log, NULL);
    for (int i = 0; i < TASKS; i++) {
        trm_writer_submit(writer, &jobs[i].task);
        if (i % 50 == 0) /* both an empty queue and a long one */
            wait_for(&jobs[i].task);
    }
    wait_for(&jobs[TASKS - 1].task);
    assert_int_equal(log.count, TASKS);
    for (int i = 0; i < TASKS; i++) {
        assert_int_equal(log.order[i], i);
        assert_int_equal(jobs[i].task.status, i % 7 == 3 ? TRM_ERR_IO : TRM_OK);
    }
    assert_string_equal(jobs[10].task.error.text, "task 10 failed");
    /* A task may be used again. */
    trm_writer_submit(writer, &jobs[0].task);
    wait_for(&jobs[0].task);
    assert_int_equal(log.count, TASKS + 1);
    trm_writer_destroy(writer);
}

static void submitting_does_not_wait_for_what_is_under_way(void **state)
{
    (void)state;
    struct job jobs[3];
    struct log log = {0};
    atomic_bool gate = false;
    struct trm_writer *writer = NULL;
    assert_int_equal(trm_writer_create(&writer, NULL), TRM_OK);
    set_up_jobs(jobs, 3, &log, &gate);
    for (int i = 0; i < 3; i++)
        trm_writer_submit(writer, &jobs[i].task);
    assert_false(trm_task_done(&jobs[0].task));
    atomic_store(&gate, true);
    wait_for(&jobs[2].task);
    assert_int_equal(log.count, 3);
    trm_writer_destroy(writer);
}

static void destroying_finishes_the_task_at_hand_alone(void **state)
{
    (void)state;
    struct job jobs[2];
    struct log log = {0};
    atomic_bool gate = true;
    struct trm_writer *writer = NULL;
    assert_int_equal(trm_writer_create(&writer, NULL), TRM_OK);
    set_up_jobs(jobs, 2, &log, &gate);
    trm_writer_submit(writer, &jobs[0].task);
    wait_for(&jobs[0].task);
    trm_writer_destroy(writer);
    assert_int_equal(log.count, 1);
    trm_writer_destroy(NULL);
}

/* What a step does to the state and what the thread reads of the snapshot never meet. */
struct reading {
    struct trm_task task;
    const struct trm_snapshot *snapshot;
    int64_t sum;
};

static enum trm_status read_snapshot(void *context, struct trm_error *err)
{
    (void)err;
    struct reading *reading = context;
    const float *data = reading->snapshot->set.data[0];
    reading->sum = 0;
    for (int i = 0; i < 6000; i++)
        reading->sum += (int64_t)data[i];
    return TRM_OK;
}

static void training_goes_on_while_a_snapshot_is_read(void **state)
{
    (void)state;
    static float live[6000];
    static char memory[2][6000 * sizeof(float) + 4 * 4096];
    struct trm_ckpt_tensor tensor = {"w", TRM_F32, 1, 6000, 1};
    struct trm_ckpt_piece piece = {0, TRM_KIND_PARAMETER, {0, 0, 6000, 1}, live};
    struct trm_slice_set set;
    struct trm_snapshot snapshots[2];
    struct reading readings[2] = {0};
    struct trm_writer *writer = NULL;
    assert_int_equal(trm_slice_set_cut(&tensor, 1, &piece, 1, &set, NULL), TRM_OK);
    assert_int_equal(trm_writer_create(&writer, NULL), TRM_OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(trm_snapshot_create(&set, TRM_F32, memory[i], &snapshots[i], NULL),
                         TRM_OK);
        readings[i].task.run = read_snapshot;
        readings[i].task.context = &readings[i];
        readings[i].snapshot = &snapshots[i];
    }
    for (int step = 0; step < 50; step++) {
        struct reading *reading = &readings[step % 2];
        if (step >= 2) {
            wait_for(&reading->task);
            assert_int_equal(reading->sum, 6000 * (step - 2));
        }
        trm_snapshot_take(&snapshots[step % 2], 2);
        trm_writer_submit(writer, &reading->task);
        for (int i = 0; i < 6000; i++)
            live[i] += 1;
    }
    trm_writer_destroy(writer);
    trm_snapshot_destroy(&snapshots[0]);
    trm_snapshot_destroy(&snapshots[1]);
    trm_slice_set_destroy(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tasks_run_in_order_and_bring_their_own_results),
        cmocka_unit_test(submitting_does_not_wait_for_what_is_under_way),
        cmocka_unit_test(destroying_finishes_the_task_at_hand_alone),
        cmocka_unit_test(training_goes_on_while_a_snapshot_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
