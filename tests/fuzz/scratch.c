#include "scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/assert.h"

/* Empty until the first use. */
static char folder[TRM_PATH_BYTES];

static void remove_folder(void)
{
    (void)trm_file_remove_tree(folder, NULL);
}

void scratch_path(const char *name, char path[TRM_PATH_BYTES])
{
    if (folder[0] == '\0') {
        const char *parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
        snprintf(folder, sizeof(folder), "%s/trireme-fuzz-XXXXXX", parent);
        TRM_ASSERT(mkdtemp(folder) != NULL);
        atexit(remove_folder);
    }
    TRM_ASSERT(trm_file_path(path, NULL, "%s/%s", folder, name) == TRM_OK);
}

void scratch_write(const char *name, const void *data, size_t bytes)
{
    char path[TRM_PATH_BYTES];
    scratch_path(name, path);
    TRM_ASSERT(trm_file_write_all(path, data, bytes, false, NULL) == TRM_OK);
}
