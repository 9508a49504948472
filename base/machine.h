/* What this machine has: memory and cores that this process may use; and which one it is. */
#ifndef TRM_BASE_MACHINE_H
#define TRM_BASE_MACHINE_H

#include <stdint.h>

/* Bytes that can be allocated without swapping: MemAvailable of /proc/meminfo, or less where a
 * control group (of either version) limits this process. 0: not known. */
uint64_t trm_machine_available_bytes(void);

/* Cores that this process may run on (its affinity mask), >= 1. */
int trm_machine_cores(void);

/* The same in all processes of a machine, and another on each: of its name, and of the kernel that
 * runs on it (names are not always set with care). */
uint64_t trm_machine_id(void);

#endif
