#include "trial.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "checkpoint/parallel/load.h"
#include "checkpoint/parallel/save.h"
#include "checkpoint/store.h"
#include "checkpoint/verify.h"
#include "image.h"
#include "values.h"

/* Beside this program. */
#define SAVER   "crash-saver"
#define LIBRARY "libfaults.so"

static void beside(const char *name, char path[TRM_PATH_BYTES])
{
    char self[TRM_PATH_BYTES];
    ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
    assert_true(length > 0);
    self[length] = '\0';
    *strrchr(self, '/') = '\0';
    assert_int_equal(trm_file_path(path, NULL, "%s/%s", self, name), TRM_OK);
}

static void inside(const struct trial *trial, const char *name, char path[TRM_PATH_BYTES])
{
    assert_int_equal(trm_file_path(path, NULL, "%s/%s", trial->scratch, name), TRM_OK);
}

void trial_start(struct trial *trial)
{
    char path[TRM_PATH_BYTES];
    /* Memory where there is some: what a disk would do is modelled. */
    const char *parent = getenv("TMPDIR") != NULL        ? getenv("TMPDIR")
                         : access("/dev/shm", W_OK) == 0 ? "/dev/shm"
                                                         : "/tmp";
    memset(trial, 0, sizeof(*trial));
    snprintf(path, sizeof(path), "%s/trireme-crash-XXXXXX", parent);
    assert_non_null(mkdtemp(path));
    assert_non_null(realpath(path, trial->scratch));
    inside(trial, "before", trial->before);
    inside(trial, "root", trial->root);
    inside(trial, "lost", trial->lost);
    inside(trial, "hollow", trial->hollow);
    inside(trial, "image", trial->image);
    inside(trial, "control", path);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(ftruncate(fd, sizeof(*trial->control)), 0);
    trial->control = mmap(NULL, sizeof(*trial->control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(trial->control != MAP_FAILED);
    close(fd);
    trial_reset(trial);
}

void trial_finish(struct trial *trial)
{
    munmap(trial->control, sizeof(*trial->control));
    assert_int_equal(trm_file_remove_tree(trial->scratch, NULL), TRM_OK);
}

void trial_reset(struct trial *trial)
{
    assert_int_equal(trm_file_remove_tree(trial->before, NULL), TRM_OK);
    assert_int_equal(trm_file_make_directories(trial->before, NULL), TRM_OK);
}

void trial_checkpoints(const char *root, char path[TRM_PATH_BYTES])
{
    assert_int_equal(trm_file_path(path, NULL, "%s/" TRIAL_CHECKPOINTS, root), TRM_OK);
}

static void prepare(struct trial *trial, bool power)
{
    struct fault_control *control = trial->control;
    const char *const old[] = {trial->root, trial->lost, trial->hollow, trial->image};
    for (size_t i = 0; i < sizeof(old) / sizeof(old[0]); i++)
        assert_int_equal(trm_file_remove_tree(old[i], NULL), TRM_OK);
    assert_int_equal(trm_file_make_directories(trial->image, NULL), TRM_OK);
    assert_true(image_copy(trial->before, trial->root));
    assert_true(!power || image_record_tree(trial->image, trial->root));
    snprintf(control->root, sizeof(control->root), "%s", trial->root);
    snprintf(control->image, sizeof(control->image), "%s", power ? trial->image : "");
    atomic_store(&control->count, 0);
    atomic_store(&control->dead, false);
    memset(control->calls, 0, sizeof(control->calls));
}

/* In the child: never returns. */
static void become_saver(const struct trial *trial, const char *const *arguments)
{
    char saver[TRM_PATH_BYTES], library[TRM_PATH_BYTES], control[TRM_PATH_BYTES];
    char said[TRM_PATH_BYTES], directory[TRM_PATH_BYTES];
    char *argv[16] = {saver};
    beside(SAVER, saver);
    beside(LIBRARY, library);
    inside(trial, "control", control);
    inside(trial, "said", said);
    trial_checkpoints(trial->root, directory);
    for (int i = 0; i < 14 && arguments[i] != NULL; i++)
        argv[i + 1] = strcmp(arguments[i], "@") == 0 ? directory : (char *)(size_t)arguments[i];
    int fd = open(said, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    dup2(fd, STDERR_FILENO);
    close(fd);
    setenv("LD_PRELOAD", library, 1);
    setenv(FAULT_VARIABLE, control, 1);
    execv(saver, argv);
    _exit(127);
}

static void read_said(struct trial *trial)
{
    char path[TRM_PATH_BYTES], *text = NULL;
    size_t bytes = 0;
    inside(trial, "said", path);
    assert_int_equal(trm_file_read_all(path, 1 << 20, &text, &bytes, NULL), TRM_OK);
    snprintf(trial->said, sizeof(trial->said), "%s", text);
    free(text);
}

int trial_run(struct trial *trial, const char *const *arguments, bool power)
{
    int status = 0;
    prepare(trial, power);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        become_saver(trial, arguments);
    assert_int_equal(waitpid(child, &status, 0), child);
    struct fault_control *control = trial->control;
    control->action = FAULT_NONE;
    control->target = 0;
    control->onward = control->no_exchange = false;
    assert_true(atomic_load(&control->count) <= FAULT_CALLS_MAX);
    assert_true(!power || image_lost(trial->image, trial->root, trial->lost));
    assert_true(!power || image_hollow(trial->image, trial->root, trial->hollow));
    read_said(trial);
    assert_true(!WIFEXITED(status) || WEXITSTATUS(status) <= 1);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

void trial_save(const char *directory, int ranks, int group, int64_t step, int64_t values)
{
    char saver[TRM_PATH_BYTES], numbers[5][24];
    const int64_t given[5] = {ranks, step, values, VALUES_ATTEMPT, group};
    int status = 0;
    beside(SAVER, saver);
    for (int i = 0; i < 5; i++)
        snprintf(numbers[i], sizeof(numbers[i]), "%lld", (long long)given[i]);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        execl(saver, saver, "save", directory, numbers[0], numbers[1], numbers[2], numbers[3],
              numbers[4], (char *)NULL);
        _exit(127);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

struct trial_set trial_nothing(void)
{
    struct trial_set set;
    for (int step = 0; step < TRIAL_STEP_END; step++)
        set.values[step] = -1;
    return set;
}

struct trial_set trial_after(const struct trial *trial, const struct trial_set *before,
                             int64_t saved, bool durable)
{
    struct trial_set now = *before, synced = *before;
    long count = atomic_load(&trial->control->count);
    for (long i = 0; i < count; i++) {
        const struct fault_call *call = &trial->control->calls[i];
        bool is_last = i == count - 1 && atomic_load(&trial->control->dead);
        const char *name = strrchr(call->path, '/');
        long long step = -1;
        int length = 0;
        if (call->error != 0 || is_last || name == NULL)
            continue;
        if (strcmp(call->name, "fsync") == 0 && strcmp(call->path, TRIAL_CHECKPOINTS) == 0)
            synced = now;
        if (strncmp(call->name, "rename", 6) != 0)
            continue;
        if (sscanf(name, "/step-%lld%n", &step, &length) == 1 && name[length] == '\0')
            now.values[step] = saved == TRIAL_OWN_VALUES ? step : saved;
        else if (sscanf(name, "/.step-%lld", &step) == 1 && strstr(name, ".removed.") != NULL)
            now.values[step] = -1;
    }
    return durable ? synced : now;
}

static void note_passed_over(void *context, const char *path, const char *reason)
{
    char *text = context;
    if (text[0] == '\0')
        snprintf(text, 1200, "passed over %.200s: %.900s", path, reason);
}

/* One checkpoint, all of it. */
static bool look_at(struct trm_comm *self, const char *directory, int64_t step, int64_t expected,
                    char text[1200])
{
    char path[TRM_PATH_BYTES], element[128];
    struct trm_error err = {0};
    struct trm_stored *stored = NULL;
    struct trm_checkpoint *checkpoint = NULL;
    struct fixture_pieces all = fixture_pieces_of(1, 1, 0, -1);
    int64_t values = -1;
    enum trm_status status = trm_store_step_path(directory, step, path, &err);
    if (status == TRM_OK)
        status = trm_stored_open(path, &stored, &err);
    if (status == TRM_OK)
        status = trm_verify(stored, NULL, &err);
    if (status == TRM_OK)
        status = trm_checkpoint_open(self, directory, step, NULL, NULL, &checkpoint, &err);
    if (status == TRM_OK)
        status = trm_checkpoint_load(self, checkpoint, all.pieces, all.count, NULL, &err);
    if (status == TRM_OK)
        values = values_of(&trm_checkpoint_catalog(checkpoint)->state);
    const char *wrong = status == TRM_OK ? fixture_wrong(&all, values, element) : err.text;
    if (wrong != NULL)
        snprintf(text, 1200, "step %lld: %.1000s", (long long)step, wrong);
    else if (values != expected)
        snprintf(text, 1200, "step %lld holds the values of step %lld, not of %lld",
                 (long long)step, (long long)values, (long long)expected);
    fixture_pieces_free(&all);
    trm_checkpoint_close(checkpoint);
    trm_stored_close(stored);
    return wrong == NULL && values == expected;
}

/* What a resume takes; -1 when it finds nothing, which is not an error. */
static bool resume(struct trm_comm *self, const char *directory, int64_t *step, char text[1200])
{
    struct trm_error err = {0};
    struct trm_checkpoint *checkpoint = NULL;
    enum trm_status status =
        trm_checkpoint_open(self, directory, -1, note_passed_over, text, &checkpoint, &err);
    *step = status == TRM_OK ? trm_checkpoint_catalog(checkpoint)->state.step : -1;
    trm_checkpoint_close(checkpoint);
    if (status == TRM_OK || status == TRM_ERR_NOT_FOUND)
        return text[0] == '\0';
    snprintf(text, 1200, "resuming: %.1000s", err.text);
    return false;
}

const char *trial_look(const char *directory, const struct trial_set *expected, char text[1200])
{
    struct trm_comm *self = NULL;
    int64_t newest = -1, resumed = -1, *steps = NULL;
    int count = 0, wanted = 0;
    text[0] = '\0';
    assert_int_equal(trm_comm_self(&self, NULL), TRM_OK);
    bool right = resume(self, directory, &resumed, text);
    if (trm_store_list(directory, &steps, &count, NULL) != TRM_OK)
        count = 0;
    for (int64_t step = 0; right && step < TRIAL_STEP_END; step++)
        if (expected->values[step] >= 0) {
            newest = step;
            wanted++;
            right = look_at(self, directory, step, expected->values[step], text);
        }
    if (right && (newest != resumed || wanted != count)) {
        snprintf(text, 1200, "resumes from step %lld of %d checkpoints, not from %lld of %d",
                 (long long)resumed, count, (long long)newest, wanted);
        right = false;
    }
    free(steps);
    trm_comm_destroy(self);
    return right ? NULL : text;
}

int trial_hidden(const char *directory, bool removed_ones_too)
{
    int count = 0;
    DIR *stream = opendir(directory);
    for (struct dirent *entry; stream != NULL && (entry = readdir(stream)) != NULL;)
        count += entry->d_name[0] == '.' && strcmp(entry->d_name, ".") != 0 &&
                 strcmp(entry->d_name, "..") != 0 &&
                 (removed_ones_too || strstr(entry->d_name, ".removed.") == NULL);
    if (stream != NULL)
        closedir(stream);
    return count;
}

const char *trial_save_next(const char *directory, int64_t step, struct trial_set *expected,
                            char text[1200])
{
    struct trm_error err = {0};
    struct trm_comm *self = NULL;
    struct trm_ckpt_state state = values_state(step, step);
    struct fixture_pieces all = fixture_pieces_of(1, 1, 0, step);
    state.attempt = VALUES_ATTEMPT + 1;
    assert_int_equal(trm_comm_self(&self, NULL), TRM_OK);
    enum trm_status status =
        trm_checkpoint_save(self, directory, 0, &state, fixture_tensors, FIXTURE_TENSORS,
                            all.pieces, all.count, NULL, &err);
    int hidden = trial_hidden(directory, true);
    trm_comm_destroy(self);
    fixture_pieces_free(&all);
    expected->values[step] = step;
    if (status == TRM_OK && hidden == 0)
        return NULL;
    if (status != TRM_OK)
        snprintf(text, 1200, "the next save failed: %.1000s", err.text);
    else
        snprintf(text, 1200, "the next save left %d hidden names", hidden);
    return text;
}
