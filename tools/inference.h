/* A model from a checkpoint, for forward passes in this process: no MPI, no optimizer, whatever the
 * layout that wrote it. Memory: the parameters once, and one sequence's activations. */
#ifndef TRM_TOOLS_INFERENCE_H
#define TRM_TOOLS_INFERENCE_H

#include "base/arena.h"
#include "trainer/config/config.h"
#include "trainer/model/model.h"

struct trm_inference {
    struct trm_config *config; /* the checkpoint's */
    struct trm_comm *self;
    struct trm_device device;
    struct trm_layout *layout;
    struct trm_model *model;
    struct trm_arena arena;
    int64_t step;
    double valid_loss; /* NaN when the run had none yet */
};

/* `where` is a checkpoint or a directory of them (the newest sound one). Every slice is checked as
 * it is read. On failure nothing is left to close. */
enum trm_status trm_inference_open(const char *where, int threads, struct trm_inference *out,
                                   struct trm_error *err);
void trm_inference_close(struct trm_inference *inference);

#endif
