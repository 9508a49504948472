/* Requests to stop: SIGTERM, SIGUSR1 (which mpirun forwards) and SIGINT set one flag, which the
 * loop reads between steps and agrees over all ranks. The flag is the program's one mutable global.
 */
#ifndef TRM_TRAINER_SIGNALS_H
#define TRM_TRAINER_SIGNALS_H

#include <stdbool.h>

/* Installs the handlers; a second SIGINT ends the process at once. */
void trm_signals_install(void);

/* True once a request came. */
bool trm_signals_stop_requested(void);

#endif
