/* A small model with its memory, for tests of the model: on one rank, or on those of a tensor
 * group. */
#ifndef TRM_TESTS_MODEL_FIXTURE_H
#define TRM_TESTS_MODEL_FIXTURE_H

#include "trainer/model/model.h"

struct fixture {
    struct trm_config *config;
    struct trm_comm *self; /* owned; NULL in a group */
    struct trm_device device;
    struct trm_layout *layout;
    struct trm_model *model;
    struct trm_arena arena;
    void *parameters, *gradients;
    enum trm_type type;
};

/* vocab 29 padded to 32, 3 layers of 12 channels and 3 heads, sequence 7, batch 2. `recompute` is
 * the level of recomputation; `reference` chooses the device. */
void fixture_open(struct fixture *f, enum trm_type type, bool reference,
                  enum trm_recompute recompute);

/* One rank of the group `tensor`, of which `key: value, ...` lines of a configuration tell more;
 * its parameters are the rank's part of those that one rank would have. */
struct fixture_setup {
    struct trm_comm *tensor; /* borrowed */
    const char *config;      /* YAML, whole */
    enum trm_type type;
    bool reference;
    enum trm_recompute recompute;
};
void fixture_open_setup(struct fixture *f, const struct fixture_setup *setup);
void fixture_close(struct fixture *f);

/* Element i of a flat vector of the fixture's type. */
double fixture_get(const struct fixture *f, const void *vector, int64_t i);
void fixture_set(const struct fixture *f, void *vector, int64_t i, double value);

/* Tokens [batch * seq_length], of `which` micro-batch. */
void fixture_tokens(const struct fixture *f, int which, int32_t *inputs, int32_t *targets);

#endif
