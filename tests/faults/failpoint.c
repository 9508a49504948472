/*
 * What trireme-train-faults does at a failpoint: fault.h says which faults there are.
 *
 * A fault that can't be understood, or asks to damage data where there is none, is a mistake of the
 * test: the process says so and ends with 64, before anything else where it can.
 */
#include "base/failpoint.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/faults/fault.h"

#define PATH_BYTES 4096
#define POLL_NS    2000000 /* between two looks of a parked process */

static struct {
    pthread_once_t once;
    struct fault faults[FAULTS_MAX];
    atomic_flag struck[FAULTS_MAX];
    int count;
    int64_t rank, attempt;
} table = {.once = PTHREAD_ONCE_INIT};

static _Noreturn void refuse(const char *what)
{
    fprintf(stderr, "trireme-train-faults: %s\n", what);
    _exit(TRM_EXIT_USAGE);
}

static int64_t read_rank(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID"};

    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        const char *rank = getenv(names[i]);
        if (rank)
            return atoll(rank);
    }
    return 0;
}

static void read_table(void)
{
    const char *text = getenv("TRIREME_FAULT"), *attempt = getenv("TRIREME_ATTEMPT");
    struct trm_error error;

    if (faults_parse(text ? text : "", table.faults, &table.count, &error) != TRM_OK)
        refuse(error.text);
    table.rank = read_rank();
    table.attempt = attempt ? atoll(attempt) : 1;
}

static void pause_ns(int64_t ns)
{
    struct timespec pause = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    while (nanosleep(&pause, &pause) != 0)
        ;
}

/* The file appears whole: a test that sees it may read it. */
static void park(const char *phase, int64_t step)
{
    const char *folder = getenv("TRIREME_FAULT_DIR");
    char name[PATH_BYTES], release[PATH_BYTES + 16], draft[PATH_BYTES + 16], host[256] = "";
    FILE *file;

    if (!folder)
        refuse("park needs TRIREME_FAULT_DIR");
    snprintf(name, sizeof name, "%s/parked.%lld.%lld.%s", folder, (long long)table.rank,
             (long long)step, phase);
    snprintf(release, sizeof release, "%s.release", name);
    snprintf(draft, sizeof draft, "%s.draft", name);
    gethostname(host, sizeof host - 1);
    file = fopen(draft, "w");
    if (!file)
        refuse("could not write into TRIREME_FAULT_DIR");
    fprintf(file, "%s %d %lld\n", host, (int)getpid(), (long long)table.attempt);
    if (fclose(file) != 0 || rename(draft, name) != 0)
        refuse("could not write into TRIREME_FAULT_DIR");
    while (access(release, F_OK) != 0)
        pause_ns(POLL_NS);
    unlink(name);
    unlink(release);
}

static void damage(enum fault_action action, void *data, size_t bytes)
{
    size_t count = bytes / sizeof(float), at = count / 2;
    float value = 0;
    uint32_t bits;

    for (size_t i = 0; i < count && value == 0; i++) {
        at = (count / 2 + i) % count;
        memcpy(&value, (char *)data + at * sizeof value, sizeof value);
    }
    if (value == 0)
        refuse("there is no data to damage here, or it is all zeros");
    memcpy(&bits, &value, sizeof bits);
    bits ^= UINT32_C(1) << 21;
    if (action == FAULT_CORRUPT)
        memcpy(&value, &bits, sizeof value);
    else
        value = action == FAULT_NAN ? NAN : INFINITY;
    memcpy((char *)data + at * sizeof value, &value, sizeof value);
}

/* The default action even where the program has blocked or taken the signal. */
static void die_by(int number)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, number);
    signal(number, SIG_DFL);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    raise(number);
}

static void strike(const struct fault *fault, const char *phase, int64_t step, void *data,
                   size_t bytes)
{
    switch (fault->action) {
    case FAULT_KILL:
        kill(getpid(), SIGKILL);
        break;
    case FAULT_SEGV:
        die_by(SIGSEGV);
        break;
    case FAULT_ABORT:
        die_by(SIGABRT);
        break;
    case FAULT_STOP:
        kill(getpid(), SIGSTOP);
        break;
    case FAULT_KILL_PARENT:
        kill(getppid(), SIGKILL);
        break;
    case FAULT_STOP_PARENT:
        kill(getppid(), SIGSTOP);
        break;
    case FAULT_EXIT:
        _exit((int)fault->argument);
    case FAULT_HANG:
        for (;;)
            atomic_signal_fence(memory_order_seq_cst);
    case FAULT_SLOW:
        pause_ns(fault->argument * 1000000);
        break;
    case FAULT_PARK:
        park(phase, step);
        break;
    default:
        damage(fault->action, data, bytes);
    }
}

void trm_failpoint(const char *phase, int64_t step, void *data, size_t bytes)
{
    int number = fault_phase(phase);

    pthread_once(&table.once, read_table);
    if (number < 0)
        refuse("a failpoint's name is missing in the table of phases");
    for (int i = 0; i < table.count; i++) {
        const struct fault *fault = &table.faults[i];
        if (fault_is_at(fault, table.rank, step, number, table.attempt) &&
            (fault->action == FAULT_SLOW || !atomic_flag_test_and_set(&table.struck[i])))
            strike(fault, phase, step, data, bytes);
    }
}
