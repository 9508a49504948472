/* The events of a run on files that take half a line, nothing, or do not answer, and with hooks
 * that do not end. This program's write(2) is what libuv calls, and so fails as a test says. */
#include "launch/supervisor/events.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"

#define PATIENCE_MS 20000

/* What is to become of writes to one file. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    ino_t file; /* 0: none */
    size_t most;
    int fail_after; /* writes that still succeed; -1: all do */
    bool stands;
    int waiting; /* writes that stand */
} trouble = {
    .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, .fail_after = -1};

__attribute__((visibility("default"))) ssize_t write(int fd, const void *data, size_t bytes);

ssize_t write(int fd, const void *data, size_t bytes)
{
    struct stat info;
    bool fails = false;

    pthread_mutex_lock(&trouble.lock);
    if (trouble.file && fstat(fd, &info) == 0 && info.st_ino == trouble.file) {
        trouble.waiting++;
        while (trouble.stands)
            pthread_cond_wait(&trouble.changed, &trouble.lock);
        trouble.waiting--;
        if (trouble.most > 0 && bytes > trouble.most)
            bytes = trouble.most;
        fails = trouble.fail_after == 0;
        trouble.fail_after -= trouble.fail_after > 0;
    }
    pthread_mutex_unlock(&trouble.lock);
    if (fails) {
        errno = ENOSPC;
        return -1;
    }
    return syscall(SYS_write, fd, data, bytes);
}

static void set_trouble(size_t most, int fail_after, bool stands)
{
    pthread_mutex_lock(&trouble.lock);
    trouble.most = most;
    trouble.fail_after = fail_after;
    trouble.stands = stands;
    pthread_cond_broadcast(&trouble.changed);
    pthread_mutex_unlock(&trouble.lock);
}

struct world {
    char directory[64], file[96], log_file[96];
    uv_loop_t loop;
    struct trm_log log;
    struct trm_events *events;
};

static void open_world(struct world *w, const char *hook)
{
    struct stat info;

    *w = (struct world){.directory = "/tmp/trireme-events-XXXXXX"};
    assert_non_null(mkdtemp(w->directory));
    snprintf(w->file, sizeof w->file, "%s/events.jsonl", w->directory);
    snprintf(w->log_file, sizeof w->log_file, "%s/log", w->directory);
    int fd = open(w->log_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    w->log = (struct trm_log){.level = TRM_LOG_INFO, .rank = -1, .fd = fd};
    uv_loop_init(&w->loop);
    assert_int_equal(trm_events_open(&w->loop, &w->log, fd, w->directory, hook, &w->events, NULL),
                     TRM_OK);
    assert_int_equal(stat(w->file, &info), 0);
    set_trouble(0, -1, false);
    trouble.file = info.st_ino;
}

static char *read_text(const char *path)
{
    char *text = NULL;
    size_t bytes;

    assert_int_equal(trm_file_read_all(path, (size_t)64 << 20, &text, &bytes, NULL), TRM_OK);
    return text;
}

static int count(const char *path, const char *what)
{
    char *text = read_text(path);
    int found = 0;

    for (const char *at = text; (at = strstr(at, what)); at++)
        found++;
    free(text);
    return found;
}

static void add(struct world *w, int64_t step)
{
    struct trm_event event = trm_event_init(TRM_HAPPENED_NODE);

    event.step = step;
    trm_events_add(w->events, &event, TRM_LOG_DEBUG, "event number %lld", (long long)step);
}

static void close_events(struct world *w)
{
    trm_events_close(w->events);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    trouble.file = 0;
}

static void remove_world(struct world *w)
{
    close(w->log.fd);
    unlink(w->file);
    unlink(w->log_file);
    assert_int_equal(rmdir(w->directory), 0);
}

/* The steps of the file's lines are these, in order; other lines are parts, [parts] of them. */
static void expect_steps(const struct world *w, const int64_t *steps, int step_count, int parts)
{
    char *text = read_text(w->file), *rest = NULL;
    int found = 0, other = 0;

    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        const char *at = strstr(line, "\"step\":");
        if (line[strlen(line) - 1] != '}') {
            other++;
            continue;
        }
        assert_non_null(at);
        assert_true(found < step_count);
        assert_int_equal(strtoll(at + 7, NULL, 10), steps[found++]);
    }
    assert_int_equal(found, step_count);
    assert_int_equal(other, parts);
    free(text);
}

static void lines_that_are_taken_bit_by_bit_are_whole(void **state)
{
    static const int64_t steps[] = {1, 2, 3, 4};
    struct world w;

    (void)state;
    open_world(&w, "");
    set_trouble(7, -1, false);
    for (int i = 0; i < 3; i++)
        add(&w, steps[i]);
    uv_run(&w.loop, UV_RUN_DEFAULT);
    expect_steps(&w, steps, 3, 0);
    add(&w, steps[3]); /* left for the end */
    close_events(&w);
    expect_steps(&w, steps, 4, 0);
    remove_world(&w);
}

static void a_line_that_was_torn_spoils_no_other_and_is_counted(void **state)
{
    static const int64_t steps[] = {1, 4, 5};
    struct world w;

    (void)state;
    open_world(&w, "");
    add(&w, 1);
    uv_run(&w.loop, UV_RUN_DEFAULT);
    set_trouble(7, 2, false); /* two times seven bytes, and then the disk is full */
    add(&w, 2);
    add(&w, 3);
    uv_run(&w.loop, UV_RUN_DEFAULT);
    assert_int_equal(count(w.log_file, "could not write to events.jsonl: no space left"), 1);
    set_trouble(0, -1, false);
    add(&w, 4);
    add(&w, 5);
    uv_run(&w.loop, UV_RUN_DEFAULT);
    assert_int_equal(count(w.log_file, "2 events are missing in events.jsonl"), 1);
    close_events(&w);
    expect_steps(&w, steps, 3, 1);
    remove_world(&w);
}

static void what_never_got_to_the_disk_is_counted_at_the_end(void **state)
{
    struct world w;

    (void)state;
    open_world(&w, "");
    set_trouble(0, 0, false);
    for (int i = 0; i < 3; i++)
        add(&w, i);
    close_events(&w);
    assert_int_equal(count(w.log_file, "3 events are missing in events.jsonl"), 1);
    expect_steps(&w, NULL, 0, 0);
    remove_world(&w);
}

/* Nobody waits for a disk that does not answer; what there is no room for is counted. */
static void a_queue_that_is_full_drops_and_tells_how_many(void **state)
{
    enum { ADDED = 4200, KEPT = 4096 };
    struct world w;
    static int64_t steps[KEPT];

    (void)state;
    open_world(&w, "");
    set_trouble(0, -1, true);
    for (int i = 0; i < ADDED; i++) {
        add(&w, i);
        if (i < KEPT)
            steps[i] = i;
        uv_run(&w.loop, UV_RUN_NOWAIT);
    }
    assert_int_equal(count(w.log_file, "could not write to events.jsonl: the disk does not"), 1);
    set_trouble(0, -1, false);
    uv_run(&w.loop, UV_RUN_DEFAULT);
    assert_int_equal(count(w.log_file, "104 events are missing in events.jsonl"), 1);
    close_events(&w);
    expect_steps(&w, steps, KEPT, 0);
    remove_world(&w);
}

static void run_until(struct world *w, const char *path, const char *what, int times)
{
    int64_t deadline_ns = trm_clock_deadline_ns(PATIENCE_MS);

    while (count(path, what) < times && !trm_clock_passed(deadline_ns)) {
        uv_run(&w->loop, UV_RUN_NOWAIT);
        usleep(1000);
    }
    assert_int_equal(count(path, what), times);
}

/* Eight may run at once; the others' events are in the file all the same, and the end waits for
 * none. */
static void hooks_that_hang_hold_up_nothing(void **state)
{
    enum { HOOKS = 8, EVENTS = 11 };
    struct world w;
    char hook[256], told[128];
    int64_t steps[EVENTS];

    (void)state;
    open_world(&w, "");
    close_events(&w);
    snprintf(told, sizeof told, "%s/told", w.directory);
    snprintf(hook, sizeof hook, "read -r l; echo \"$$ $l\" >>%s; exec sleep 600", told);
    uv_loop_init(&w.loop);
    assert_int_equal(trm_events_open(&w.loop, &w.log, w.log.fd, w.directory, hook, &w.events, NULL),
                     TRM_OK);
    int fd = open(told, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
    for (int i = 0; i < EVENTS; i++) {
        steps[i] = i;
        add(&w, i);
    }
    run_until(&w, told, "\"event\":\"node\"", HOOKS);
    assert_int_equal(count(w.log_file, "the on_event hook is slow"), EVENTS - HOOKS);
    uv_run(&w.loop, UV_RUN_DEFAULT); /* ends, though they don't */
    close_events(&w);
    expect_steps(&w, steps, EVENTS, 0);
    FILE *file = fopen(told, "r");
    assert_non_null(file);
    int pid, ended = 0;
    while (fscanf(file, "%d%*[^\n]", &pid) == 1)
        ended += kill(pid, SIGKILL) == 0;
    fclose(file);
    assert_int_equal(ended, HOOKS);
    unlink(told);
    remove_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_that_are_taken_bit_by_bit_are_whole),
        cmocka_unit_test(a_line_that_was_torn_spoils_no_other_and_is_counted),
        cmocka_unit_test(what_never_got_to_the_disk_is_counted_at_the_end),
        cmocka_unit_test(a_queue_that_is_full_drops_and_tells_how_many),
        cmocka_unit_test(hooks_that_hang_hold_up_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
