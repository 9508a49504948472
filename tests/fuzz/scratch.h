/* Files for readers that want a path: in a folder of this process's own, removed when it ends. */
#ifndef TRM_TESTS_FUZZ_SCRATCH_H
#define TRM_TESTS_FUZZ_SCRATCH_H

#include <stddef.h>

#include "base/file.h"

/* Makes or overwrites the file `name`. */
void scratch_write(const char *name, const void *data, size_t bytes);
void scratch_path(const char *name, char path[TRM_PATH_BYTES]);

#endif
