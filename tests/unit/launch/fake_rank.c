/*
 * A rank without training: fake_rank RANK LOCAL_RANK MODE, with TRIREME_RUNTIME and TRIREME_ATTEMPT
 * as `trireme run` sets them.
 *
 *   run     attaches, is at step 118 in backward, and goes until it is asked to stop (75) or its
 *           lease lapses (40)
 *   stuck   the same, and looks at neither
 *   done    attaches and leaves with a record
 *   domain  the same, and the record is the failure domain that it was told
 *   slots   attaches, takes two memory slots, and goes on like `run`
 *   lock    takes the ranks' lock and does not attach
 *   daemon  does nothing; its last argument is the runtime directory
 *   orted   starts a rank that runs, as the daemon would whose name this program then has
 *
 * It ends with 69 when it is refused.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "collectives/attach.h"
#include "collectives/flight_write.h"

#define LAPSED 40

static int run(struct trm_attach *attach, bool stuck)
{
    for (;;) {
        usleep(2000);
        if (!stuck && trm_flight_lease_lapsed(&attach->flight))
            return LAPSED;
        if (!stuck && trm_flight_stop_requested(&attach->flight)) {
            trm_flight_exit(&attach->flight, TRM_ERR_STOPPED, TRM_EXIT_REQUEUE, "asked to stop");
            return TRM_EXIT_REQUEUE;
        }
    }
}

static int take_slots(struct trm_attach *attach)
{
    struct trm_attach_message message = {
        .kind = TRM_ATTACH_SLOT_TAKE, .bytes = 1 << 20, .count = 2};
    int fds[TRM_ATTACH_MAX_FDS], count = 0;
    struct trm_error err;
    if (trm_attach_ask(attach, &message, fds, TRM_ATTACH_MAX_FDS, &count, &err) != TRM_OK) {
        fprintf(stderr, "%s\n", err.text);
        return TRM_EXIT_SOFTWARE;
    }
    return count == 2 ? TRM_EXIT_OK : TRM_EXIT_SOFTWARE;
}

static int hold_lock(void)
{
    char directory[TRM_PATH_BYTES], path[TRM_PATH_BYTES];
    int fd;
    if (trm_attach_directory(getenv("TRIREME_RUNTIME"), directory, NULL) != TRM_OK ||
        trm_file_path(path, NULL, "%s/" TRM_ATTACH_LOCK, directory) != TRM_OK)
        return TRM_EXIT_SOFTWARE;
    do {
        usleep(1000);
        fd = open(path, O_RDWR | O_CLOEXEC);
    } while (fd < 0 || flock(fd, LOCK_SH | LOCK_NB) != 0);
    for (;;)
        pause();
}

static int launch(const char *program, char **argv)
{
    char run_mode[] = "run";
    char *arguments[] = {argv[0], argv[1], argv[2], run_mode, NULL};
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execv(program, arguments);
        _exit(127);
    }
    waitpid(pid, NULL, 0);
    return 0;
}

int main(int argc, char **argv)
{
    struct trm_attach attach;
    struct trm_error err;
    const char *mode = argc > 3 ? argv[3] : "";
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (strcmp(mode, "lock") == 0)
        return hold_lock();
    if (strcmp(mode, "daemon") == 0)
        return pause();
    if (strcmp(mode, "orted") == 0)
        return launch(argv[4], argv);
    if (argc < 4 || trm_attach_open(atoi(argv[1]), atoi(argv[2]), &attach, &err) != TRM_OK) {
        fprintf(stderr, "%s\n", argc < 4 ? "too few arguments" : err.text);
        return TRM_EXIT_UNAVAILABLE;
    }
    trm_flight_mesh(&attach.flight, 2, 2, 1);
    trm_flight_step(&attach.flight,
                    &(struct trm_flight_step){.step = 118, .samples = 944, .loss = 2.5});
    trm_flight_phase(&attach.flight, TRM_PHASE_BACKWARD);
    if (strcmp(mode, "done") == 0) {
        trm_flight_exit(&attach.flight, TRM_OK, 0, "all steps are done");
        return 0;
    }
    if (strcmp(mode, "domain") == 0) {
        trm_flight_exit(&attach.flight, TRM_OK, 0, attach.domain);
        return 0;
    }
    if (strcmp(mode, "slots") == 0) {
        int code = take_slots(&attach);
        if (code != TRM_EXIT_OK)
            return code;
    }
    return run(&attach, strcmp(mode, "stuck") == 0);
}
