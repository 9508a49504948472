/* `trireme ckpt list DIR`. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/human.h"
#include "checkpoint/store.h"
#include "checkpoint/stored.h"
#include "tools/ckpt.h"

static int64_t disk_bytes(const struct trm_catalog *catalog)
{
    int64_t bytes = 0;
    for (int i = 0; i < catalog->file_count; i++)
        bytes += catalog->files[i].bytes;
    return bytes;
}

static void print_catalog(const struct trm_catalog *catalog)
{
    const struct trm_ckpt_state *state = &catalog->state;
    char size[32], layout[48], loss[32] = "-";
    trm_human_bytes(size, sizeof(size), (uint64_t)disk_bytes(catalog));
    snprintf(layout, sizeof(layout), "%d x %d", state->data_parallel_size,
             state->tensor_model_parallel_size);
    if (!isnan(state->last_loss))
        snprintf(loss, sizeof(loss), "%.4f", state->last_loss);
    printf("%10" PRId64 "  %-20s  %10s  %-24s  %13s  %9s  ", state->step, catalog->written_at, size,
           state->run_id, layout, loss);
}

/* A line for the checkpoint at `path`; `step` is what its name says, -1 for none. */
static void print_checkpoint(const char *path, int64_t step)
{
    struct trm_catalog catalog = {0};
    struct trm_stored *stored = NULL;
    struct trm_error err = {0};
    if (trm_stored_read_catalog(path, &catalog, &err) != TRM_OK) {
        printf("%10" PRId64 "  %-20s  %10s  %-24s  %13s  %9s  %s\n", step, "-", "-", "-", "-", "-",
               err.text);
        return;
    }
    print_catalog(&catalog);
    if (step >= 0 && catalog.state.step != step)
        printf("%s: its manifest is of step %" PRId64 "\n", path, catalog.state.step);
    else if (trm_stored_open(path, &stored, &err) == TRM_OK)
        printf("sound\n");
    else
        printf("%s\n", err.text);
    trm_stored_close(stored);
    trm_catalog_destroy(&catalog);
}

int trm_ckpt_list(int argc, char **argv)
{
    (void)argc;
    const char *directory = argv[0];
    struct trm_error err = {0};
    char path[TRM_PATH_BYTES];
    int64_t *steps = NULL;
    int count = 0;
    enum trm_status status = trm_file_path(path, &err, "%s/" TRM_CKPT_MANIFEST, directory);
    bool single = status == TRM_OK && trm_file_exists(path);
    if (status == TRM_OK && !single)
        status = trm_store_list(directory, &steps, &count, &err);
    if (status == TRM_OK && !single && count == 0)
        status = trm_error_set(&err, TRM_ERR_NOT_FOUND, "no checkpoint in \"%s\"", directory);
    if (status != TRM_OK) {
        free(steps);
        return trm_ckpt_fail(&err);
    }
    printf("%10s  %-20s  %10s  %-24s  %13s  %9s  %s\n", "step", "written", "size", "run",
           "data x tensor", "loss", "state");
    if (single)
        print_checkpoint(directory, -1);
    for (int i = 0; i < count; i++)
        if (trm_store_step_path(directory, steps[i], path, NULL) == TRM_OK)
            print_checkpoint(path, steps[i]);
    free(steps);
    return TRM_EXIT_OK;
}
