/* Runs a fuzz target on every file of the folders that are given, in any
 * order. For machines without libFuzzer, and for the sanitizers of the project's compiler. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "fuzz.h"

#define INPUT_BYTES ((size_t)1 << 20)

static int replay(const char *path)
{
    struct trm_error err = {0};
    char *data = NULL;
    size_t bytes = 0;
    if (trm_file_read_all(path, INPUT_BYTES, &data, &bytes, &err) != TRM_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    printf("%s\n", path);
    fflush(stdout);
    LLVMFuzzerTestOneInput((const uint8_t *)data, bytes);
    free(data);
    return 0;
}

int main(int argc, char **argv)
{
    int tried = 0, failed = 0;
    for (int i = 1; i < argc; i++) {
        DIR *folder = opendir(argv[i]);
        for (struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;) {
            char path[TRM_PATH_BYTES];
            if (entry->d_name[0] == '.')
                continue;
            failed += trm_file_path(path, NULL, "%s/%s", argv[i], entry->d_name) != TRM_OK ||
                      replay(path) != 0;
            tried++;
        }
        if (folder != NULL)
            closedir(folder);
    }
    printf("%d inputs, %d failed\n", tried, failed);
    return tried == 0 || failed > 0;
}
