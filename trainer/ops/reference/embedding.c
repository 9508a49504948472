/* Rows of tables, by token and by position. Gradients are added row after row, rounding at each. */
#include "trainer/ops/reference/internal.h"

/* The table row of sample row n; negative when this rank does not hold it. */
static int64_t held_row(struct trm_tensor tokens, int64_t n, int64_t first_row, int64_t held)
{
    const int64_t row = trm_ref_token(tokens, n) - first_row;
    return row >= 0 && row < held ? row : -1;
}

void trm_ref_embedding_forward(struct trm_device *dev, struct trm_tensor x,
                               struct trm_tensor tokens, struct trm_tensor table, int64_t first_row)
{
    TRM_ASSERT(x.dims == 2 && table.dims == 2 && table.shape[1] == x.shape[1]);
    TRM_ASSERT(tokens.type == TRM_I32 && trm_ref_is1(tokens, x.shape[0]));
    if (!TRM_REF_TAKES(dev, "embedding_forward", x, table))
        return;
    for (int64_t n = 0; n < x.shape[0]; n++) {
        const int64_t row = held_row(tokens, n, first_row, table.shape[0]);
        for (int64_t c = 0; c < x.shape[1]; c++)
            trm_ref_set2(x, n, c, row < 0 ? 0.0 : trm_ref_get2(table, row, c));
    }
}

void trm_ref_embedding_backward(struct trm_device *dev, struct trm_tensor dtable,
                                struct trm_tensor dx, struct trm_tensor tokens, int64_t first_row)
{
    TRM_ASSERT(dx.dims == 2 && dtable.dims == 2 && dtable.shape[1] == dx.shape[1]);
    TRM_ASSERT(tokens.type == TRM_I32 && trm_ref_is1(tokens, dx.shape[0]));
    if (!TRM_REF_TAKES(dev, "embedding_backward", dtable, dx))
        return;
    for (int64_t n = 0; n < dx.shape[0]; n++) {
        const int64_t row = held_row(tokens, n, first_row, dtable.shape[0]);
        for (int64_t c = 0; row >= 0 && c < dx.shape[1]; c++)
            trm_ref_add2(dtable, row, c, trm_ref_get2(dx, n, c));
    }
}

void trm_ref_position_forward(struct trm_device *dev, struct trm_tensor x, struct trm_tensor table,
                              int64_t seq_length, int64_t position_offset)
{
    TRM_ASSERT(x.dims == 2 && table.dims == 2 && table.shape[1] == x.shape[1]);
    TRM_ASSERT(seq_length > 0 && x.shape[0] % seq_length == 0);
    TRM_ASSERT(position_offset >= 0 && position_offset + seq_length <= table.shape[0]);
    if (!TRM_REF_TAKES(dev, "position_forward", x, table))
        return;
    for (int64_t n = 0; n < x.shape[0]; n++)
        for (int64_t c = 0; c < x.shape[1]; c++)
            trm_ref_add2(x, n, c, trm_ref_get2(table, position_offset + n % seq_length, c));
}

void trm_ref_position_backward(struct trm_device *dev, struct trm_tensor dtable,
                               struct trm_tensor dx, int64_t seq_length)
{
    TRM_ASSERT(dx.dims == 2 && dtable.dims == 2 && dtable.shape[1] == dx.shape[1]);
    TRM_ASSERT(seq_length > 0 && dx.shape[0] % seq_length == 0 && seq_length <= dtable.shape[0]);
    if (!TRM_REF_TAKES(dev, "position_backward", dtable, dx))
        return;
    for (int64_t n = 0; n < dx.shape[0]; n++)
        for (int64_t c = 0; c < dx.shape[1]; c++)
            trm_ref_add2(dtable, n % seq_length, c, trm_ref_get2(dx, n, c));
}
