#include "trainer/model/init.h"

#include <string.h>

#include "base/hash.h"
#include "base/random.h"

static float value_at(const struct trm_layout_tensor *t, uint64_t key, int64_t element)
{
    int64_t row = element / t->columns, column = element % t->columns;

    if (row >= t->valid_rows || t->spec.init == TRM_INIT_ZERO)
        return 0.0f;
    if (t->spec.init == TRM_INIT_ONE)
        return 1.0f;
    uint64_t global = (uint64_t)((t->first_row + row) * t->spec.columns + t->first_column + column);
    return (float)(t->spec.init_std * trm_random_normal(key, global));
}

void trm_init_fill(const struct trm_layout *layout, int tensor, int64_t begin, int64_t end,
                   uint64_t seed, float *out)
{
    const struct trm_layout_tensor *t = &layout->tensors[tensor];
    uint64_t name = trm_hash64(t->spec.name, strlen(t->spec.name));
    uint64_t key = trm_random_key(seed, "init", name, 0);

#pragma omp parallel for schedule(static)
    for (int64_t i = begin; i < end; i++)
        out[i - begin] = value_at(t, key, i);
}
