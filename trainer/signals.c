#include "trainer/signals.h"

#include <pthread.h>
#include <signal.h>
#include <stddef.h>

static const int stop_signals[] = {SIGTERM, SIGUSR1, SIGINT};

#define STOP_SIGNALS (sizeof stop_signals / sizeof *stop_signals)

void trm_signals_block(void)
{
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < STOP_SIGNALS; i++)
        sigaddset(&set, stop_signals[i]);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

bool trm_signals_stop_requested(const struct trm_flight *flight)
{
    sigset_t pending;

    if (trm_flight_stop_requested(flight))
        return true;
    sigemptyset(&pending);
    sigpending(&pending);
    for (size_t i = 0; i < STOP_SIGNALS; i++)
        if (sigismember(&pending, stop_signals[i]) == 1)
            return true;
    return false;
}
