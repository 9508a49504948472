#include "collectives/stages.h"

#include <stdlib.h>

#include "base/assert.h"

#define MIXED (-1) /* an operand that several groups brought together */
#define GONE  (-2) /* an operand that was added into another inside its group */

static struct trm_stages *allocate(const struct trm_lanes *lanes, int group_size)
{
    struct trm_stages *s = calloc(1, sizeof *s);
    size_t nodes = (size_t)lanes->node_count;

    if (!s)
        return NULL;
    s->group_size = group_size;
    s->group_count = lanes->rank_count / group_size;
    s->within = calloc(nodes, sizeof *s->within);
    s->between = calloc(nodes, sizeof *s->between);
    s->left_begin = calloc((size_t)s->group_count + 1, sizeof *s->left_begin);
    s->left = calloc(nodes, sizeof *s->left);
    if (!s->within || !s->between || !s->left_begin || !s->left) {
        trm_stages_destroy(s);
        return NULL;
    }
    return s;
}

/* Lists operands by the group that has them left. */
static void list_left(struct trm_stages *s, const int *left_in, int node_count)
{
    for (int g = 0; g < s->group_count; g++) {
        s->left_begin[g + 1] = s->left_begin[g];
        for (int i = 0; i < node_count; i++)
            if (left_in[i] == g)
                s->left[s->left_begin[g + 1]++] = i;
    }
}

enum trm_status trm_stages_create(const struct trm_lanes *lanes, int group_size, int group,
                                  struct trm_stages **out, struct trm_error *err)
{
    int *holder = calloc((size_t)lanes->node_count, sizeof *holder);   /* as additions go on */
    int *left_in = calloc((size_t)lanes->node_count, sizeof *left_in); /* after the first stage */
    struct trm_stages *s = allocate(lanes, group_size);
    enum trm_status status = TRM_OK;

    TRM_ASSERT(group_size > 0 && lanes->rank_count % group_size == 0);
    if (!holder || !left_in || !s) {
        status = trm_error_set(err, TRM_ERR_MEMORY, "no memory for a tree of %d partial sums",
                               lanes->node_count);
        trm_stages_destroy(s);
        goto out;
    }
    for (int i = 0; i < lanes->node_count; i++)
        holder[i] = left_in[i] = lanes->nodes[i].rank / group_size;
    for (int i = 0; i + 1 < lanes->node_count; i++) {
        struct trm_lane_add add = lanes->adds[i];
        if (holder[add.target] == holder[add.source] && holder[add.target] != MIXED) {
            left_in[add.source] = GONE;
            if (holder[add.target] == group)
                s->within[s->within_count++] = add;
        } else {
            holder[add.target] = MIXED;
            s->between[s->between_count++] = add;
        }
    }
    list_left(s, left_in, lanes->node_count);
    *out = s;
out:
    free(holder);
    free(left_in);
    return status;
}

void trm_stages_destroy(struct trm_stages *s)
{
    if (!s)
        return;
    free(s->within);
    free(s->between);
    free(s->left_begin);
    free(s->left);
    free(s);
}
