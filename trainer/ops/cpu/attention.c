/* Blocks of queries, the keys they see, and how much scratch that takes. */
#include "trainer/ops/cpu/attention.h"
#include "trainer/ops/cpu/vector.h"

/* Whole vectors, and rows that don't lie a multiple of 4 KiB apart. */
static int64_t score_stride(int64_t keys)
{
    int64_t stride = trm_cpu_round_up(keys, TRM_LANES);
    return stride % 256 == 0 ? stride + TRM_LANES : stride;
}

int64_t trm_cpu_query_blocks(const struct trm_attention *shape)
{
    return trm_cpu_parts(shape->seq_length, TRM_CPU_QUERY_BLOCK);
}

/* First key that the query at `position` sees. */
static int64_t first_key(const struct trm_attention *shape, int64_t position)
{
    return shape->window > 0 && position >= shape->window ? position - shape->window + 1 : 0;
}

struct trm_cpu_query_block trm_cpu_query_block(const struct trm_attention *shape, int64_t index)
{
    struct trm_cpu_query_block block = {.query = index * TRM_CPU_QUERY_BLOCK};
    block.queries = trm_cpu_min(TRM_CPU_QUERY_BLOCK, shape->seq_length - block.query);
    int64_t position = block.query + shape->position_offset;
    block.key = first_key(shape, position);
    block.keys = position + block.queries - block.key;
    block.stride = score_stride(block.keys);
    return block;
}

void trm_cpu_visible(const struct trm_attention *shape, const struct trm_cpu_query_block *block,
                     int64_t row, int64_t *first, int64_t *last)
{
    int64_t position = block->query + row + shape->position_offset;
    *first = first_key(shape, position) - block->key;
    *last = position + 1 - block->key;
}

int64_t trm_cpu_score_stride(const struct trm_attention *shape)
{
    int64_t keys = (int64_t)shape->seq_length + shape->position_offset;
    if (shape->window > 0)
        keys = trm_cpu_min(keys, (int64_t)shape->window + TRM_CPU_QUERY_BLOCK - 1);
    /* A stride that was padded can be more than that of more keys. */
    return score_stride(keys) + TRM_LANES;
}

size_t trm_cpu_attention_bytes(const struct trm_attention *shape)
{
    int64_t rows = trm_cpu_min(TRM_CPU_QUERY_BLOCK, shape->seq_length);
    return (size_t)(2 * rows * trm_cpu_score_stride(shape)) * sizeof(float);
}

void trm_cpu_attention_check(struct trm_device *dev, bool failed)
{
    if (failed)
        trm_cpu_fail(dev, TRM_ERR_INTERNAL, "the matrix library refused a product of attention");
}
