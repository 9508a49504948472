#include "trainer/ops/tensor.h"

#include "base/assert.h"

static struct trm_tensor contiguous(void *data, enum trm_type type, int dims,
                                    const int64_t shape[TRM_MAX_DIMS])
{
    struct trm_tensor t = {.data = data, .type = type, .scale = 1.0f, .dims = dims};
    int64_t stride = 1;
    for (int d = dims - 1; d >= 0; d--) {
        TRM_ASSERT(shape[d] >= 0);
        t.shape[d] = shape[d];
        t.stride[d] = stride;
        stride *= shape[d];
    }
    return t;
}

struct trm_tensor trm_tensor_1d(void *data, enum trm_type type, int64_t n)
{
    return contiguous(data, type, 1, (int64_t[TRM_MAX_DIMS]){n});
}

struct trm_tensor trm_tensor_2d(void *data, enum trm_type type, int64_t rows, int64_t columns)
{
    return contiguous(data, type, 2, (int64_t[TRM_MAX_DIMS]){rows, columns});
}

struct trm_tensor trm_tensor_4d(void *data, enum trm_type type, int64_t a, int64_t b, int64_t c,
                                int64_t d)
{
    return contiguous(data, type, 4, (int64_t[TRM_MAX_DIMS]){a, b, c, d});
}

struct trm_tensor trm_tensor_transpose(struct trm_tensor t)
{
    TRM_ASSERT(t.dims == 2);
    struct trm_tensor out = t;
    out.shape[0] = t.shape[1];
    out.shape[1] = t.shape[0];
    out.stride[0] = t.stride[1];
    out.stride[1] = t.stride[0];
    return out;
}

/* Indices [first, first + count) of one dimension. A view of nothing (data NULL) stays one. */
static struct trm_tensor range(struct trm_tensor t, int dim, int64_t first, int64_t count)
{
    TRM_ASSERT(dim < t.dims && first >= 0 && count >= 0 && count <= t.shape[dim] - first);
    if (t.data != NULL)
        t.data = (char *)t.data + first * t.stride[dim] * (int64_t)trm_type_bytes(t.type);
    t.shape[dim] = count;
    return t;
}

struct trm_tensor trm_tensor_rows(struct trm_tensor t, int64_t first, int64_t count)
{
    return range(t, 0, first, count);
}

struct trm_tensor trm_tensor_columns(struct trm_tensor t, int64_t first, int64_t count)
{
    TRM_ASSERT(t.dims == 2);
    return range(t, 1, first, count);
}

int64_t trm_tensor_elements(struct trm_tensor t)
{
    int64_t elements = 1;
    for (int d = 0; d < t.dims; d++)
        elements *= t.shape[d];
    return elements;
}

int trm_tensor_is_contiguous(struct trm_tensor t)
{
    int64_t stride = 1;
    for (int d = t.dims - 1; d >= 0; d--) {
        /* The stride of a dimension that has one index is never walked. */
        if (t.shape[d] != 1 && t.stride[d] != stride)
            return 0;
        stride *= t.shape[d];
    }
    return 1;
}
