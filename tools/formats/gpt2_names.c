#include "tools/formats/gpt2_names.h"

#include <stdio.h>
#include <string.h>

#define LAYER_PREFIX "layers."

static const struct trm_gpt2_name names[] = {
    {"embedding.token.weight", "wte.weight", false, false, 0, 1, 0},
    {"embedding.position.weight", "wpe.weight", false, false, 0, 1, 1},
    {"norm1.weight", "ln_1.weight", true, false, 0, 1, 2},
    {"norm1.bias", "ln_1.bias", true, false, 0, 1, 3},
    {"attention.q.weight", "attn.c_attn.weight", true, true, 0, 3, 4},
    {"attention.k.weight", "attn.c_attn.weight", true, true, 1, 3, 4},
    {"attention.v.weight", "attn.c_attn.weight", true, true, 2, 3, 4},
    {"attention.q.bias", "attn.c_attn.bias", true, false, 0, 3, 5},
    {"attention.k.bias", "attn.c_attn.bias", true, false, 1, 3, 5},
    {"attention.v.bias", "attn.c_attn.bias", true, false, 2, 3, 5},
    {"attention.projection.weight", "attn.c_proj.weight", true, true, 0, 1, 6},
    {"attention.projection.bias", "attn.c_proj.bias", true, false, 0, 1, 7},
    {"norm2.weight", "ln_2.weight", true, false, 0, 1, 8},
    {"norm2.bias", "ln_2.bias", true, false, 0, 1, 9},
    {"mlp.up.weight", "mlp.c_fc.weight", true, true, 0, 1, 10},
    {"mlp.up.bias", "mlp.c_fc.bias", true, false, 0, 1, 11},
    {"mlp.down.weight", "mlp.c_proj.weight", true, true, 0, 1, 12},
    {"mlp.down.bias", "mlp.c_proj.bias", true, false, 0, 1, 13},
    {"final_norm.weight", "ln_f.weight", false, false, 0, 1, 14},
    {"final_norm.bias", "ln_f.bias", false, false, 0, 1, 15},
};

const struct trm_gpt2_name *trm_gpt2_name_find(const char *ours, int *layer)
{
    int number = -1, length = 0;
    bool in_layer = strncmp(ours, LAYER_PREFIX, strlen(LAYER_PREFIX)) == 0;
    if (in_layer && (sscanf(ours, LAYER_PREFIX "%9d.%n", &number, &length) != 1 || length == 0))
        return NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (names[i].in_layer != in_layer || strcmp(names[i].ours, ours + length) != 0)
            continue;
        *layer = number;
        return &names[i];
    }
    return NULL;
}

char *trm_gpt2_name_huggingface(const struct trm_gpt2_name *name, int layer, char *text,
                                size_t text_bytes)
{
    if (name->in_layer)
        snprintf(text, text_bytes, "h.%d.%s", layer, name->huggingface);
    else
        snprintf(text, text_bytes, "%s", name->huggingface);
    return text;
}
