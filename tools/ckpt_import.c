/* `trireme ckpt import DIR|FILE.bin -o OUT`: somebody else's GPT-2 as a checkpoint of step 0 with
 * parameters alone. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "tools/ckpt.h"
#include "tools/ckpt_options.h"
#include "tools/ckpt_write.h"
#include "tools/formats/huggingface.h"
#include "tools/formats/llmc_model.h"

#define SHARD_BYTES ((int64_t)1 << 30) /* when --shards is not given: at most about this */

struct import {
    struct trm_foreign foreign;
    struct trm_ckpt_tensor *tensors; /* owned, as foreign.specs */
    struct trm_ckpt_state state;
    struct trm_ckpt_progress progress;
    int64_t elements;
};

static enum trm_status fill(void *context, const struct trm_ckpt_piece *pieces, int piece_count,
                            struct trm_error *err)
{
    struct import *import = context;
    enum trm_status status = TRM_OK;
    for (int i = 0; status == TRM_OK && i < piece_count; i++)
        status = trm_foreign_read(&import->foreign, pieces[i].tensor, pieces[i].rect,
                                  pieces[i].data, err);
    return status;
}

static void show(void *context, int64_t bytes)
{
    struct import *import = context;
    trm_ckpt_progress_show(&import->progress, bytes);
}

static enum trm_status list_tensors(struct import *import, struct trm_error *err)
{
    const struct trm_foreign *foreign = &import->foreign;
    import->tensors = calloc((size_t)foreign->tensor_count, sizeof *import->tensors);
    if (import->tensors == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for %d tensors",
                             foreign->tensor_count);
    for (int i = 0; i < foreign->tensor_count; i++) {
        const struct trm_tensor_spec *spec = &foreign->specs[i];
        struct trm_ckpt_tensor *tensor = &import->tensors[i];
        _Static_assert(sizeof tensor->name == sizeof spec->name, "names fit");
        memcpy(tensor->name, spec->name, sizeof tensor->name);
        tensor->type = TRM_F32;
        tensor->dims = spec->dims;
        tensor->rows = spec->rows;
        tensor->columns = spec->columns;
        import->elements += spec->rows * spec->columns;
    }
    return TRM_OK;
}

/* The state of a run that has not begun, under a run id of its own. */
static enum trm_status make_state(struct import *import, struct trm_error *err)
{
    uint64_t bits[2];
    struct trm_ckpt_state *state = &import->state;
    if (getrandom(bits, sizeof bits, 0) != (ssize_t)sizeof bits)
        return trm_error_set(err, TRM_ERR_IO, "the system has no random numbers for a run id");
    snprintf(state->run_id, sizeof state->run_id, "%016llx%016llx", (unsigned long long)bits[0],
             (unsigned long long)bits[1]);
    state->last_loss = state->valid_loss = NAN;
    state->data_parallel_size = state->tensor_model_parallel_size = 1;
    state->config_yaml = trm_foreign_yaml(import->foreign.config);
    state->fingerprint = strdup("");
    if (state->config_yaml == NULL || state->fingerprint == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for the model's description");
    return TRM_OK;
}

static enum trm_status open_foreign(const char *source, struct trm_foreign *foreign,
                                    struct trm_error *err)
{
    struct stat info;
    bool directory = stat(source, &info) == 0 && S_ISDIR(info.st_mode);
    return directory ? trm_huggingface_open(source, foreign, err)
                     : trm_llmc_model_open(source, foreign, err);
}

static enum trm_status write_checkpoint(struct import *import,
                                        const struct trm_ckpt_options *options,
                                        char path[TRM_PATH_BYTES], struct trm_error *err)
{
    int64_t bytes = import->elements * (int64_t)sizeof(float);
    int64_t shards = options->shards ? options->shards : bytes / SHARD_BYTES + 1;
    struct trm_ckpt_content content = {
        .state = &import->state,
        .tensors = import->tensors,
        .tensor_count = import->foreign.tensor_count,
        .kinds = {[TRM_KIND_PARAMETER] = true},
        .fill = fill,
        .progress = show,
        .context = import,
    };
    trm_ckpt_progress_begin(&import->progress, "importing", bytes);
    enum trm_status status = trm_ckpt_write(options->output, &content, (int)shards, path, err);
    trm_ckpt_progress_end(&import->progress);
    return status;
}

int trm_ckpt_import(int argc, char **argv)
{
    struct trm_ckpt_options options;
    struct import import = {.foreign = {.fd = -1}};
    struct trm_error err = {0};
    char path[TRM_PATH_BYTES], count[32];
    if (!trm_ckpt_parse("import", "os", argc, argv, &options))
        return TRM_EXIT_USAGE;
    enum trm_status status = open_foreign(options.source, &import.foreign, &err);
    if (status == TRM_OK)
        status = list_tensors(&import, &err);
    if (status == TRM_OK)
        status = make_state(&import, &err);
    if (status == TRM_OK)
        status = write_checkpoint(&import, &options, path, &err);
    if (status == TRM_OK)
        printf("%s: %s parameters; train from it with --load, and these sizes:\n%s", path,
               trm_human_count(count, sizeof count, (uint64_t)import.elements),
               import.state.config_yaml);
    trm_foreign_close(&import.foreign);
    trm_ckpt_state_destroy(&import.state);
    free(import.tensors);
    return status == TRM_OK ? TRM_EXIT_OK : trm_ckpt_fail(&err);
}
