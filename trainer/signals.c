#include "trainer/signals.h"

#include <signal.h>
#include <string.h>

static volatile sig_atomic_t stop_requested;

static void on_signal(int number)
{
    stop_requested = 1;
    if (number == SIGINT)
        signal(SIGINT, SIG_DFL);
}

void trm_signals_install(void)
{
    static const int numbers[] = {SIGTERM, SIGUSR1, SIGINT};
    struct sigaction action;

    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;
    for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++)
        sigaction(numbers[i], &action, NULL);
}

bool trm_signals_stop_requested(void)
{
    return stop_requested != 0;
}
