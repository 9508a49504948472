#include "base/type.h"

#include "base/assert.h"

static const struct {
    const char *name;
    size_t bytes;
} types[TRM_TYPE_COUNT] = {
    [TRM_F32] = {"float32", 4},
    [TRM_F64] = {"float64", 8},
    [TRM_BF16] = {"bfloat16", 2},
    [TRM_I32] = {"int32", 4},
};

size_t trm_type_bytes(enum trm_type type)
{
    TRM_ASSERT((unsigned)type < TRM_TYPE_COUNT);
    return types[type].bytes;
}

const char *trm_type_name(enum trm_type type)
{
    TRM_ASSERT((unsigned)type < TRM_TYPE_COUNT);
    return types[type].name;
}
