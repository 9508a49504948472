#include "trainer/model/linear.h"

static const struct trm_tensor none;

void trm_linear_column_forward(struct trm_model_context *c, const struct trm_linear *layer,
                               struct trm_tensor y, struct trm_tensor pre, struct trm_tensor x,
                               enum trm_activation activation)
{
    c->ops->linear_forward(c->device, y, pre, trm_stream_gather(c, x),
                           trm_context_parameter(c, layer->weight, layer->count),
                           trm_context_parameter(c, layer->bias, layer->count), activation);
}

static void backward(struct trm_model_context *c, const struct trm_linear *layer,
                     struct trm_tensor dx, struct trm_tensor dy, struct trm_tensor x,
                     struct trm_tensor pre, enum trm_activation activation)
{
    c->ops->linear_backward(c->device, dx, trm_context_gradient(c, layer->weight, layer->count),
                            trm_context_gradient(c, layer->bias, layer->count), dy, x,
                            trm_context_parameter(c, layer->weight, layer->count), pre, activation,
                            c->accumulate);
}

struct trm_tensor trm_linear_column_backward(struct trm_model_context *c,
                                             const struct trm_linear *layer, struct trm_tensor dx,
                                             struct trm_tensor dy, struct trm_tensor x)
{
    backward(c, layer, dx, dy, trm_stream_gather(c, x), none, TRM_ACT_NONE);
    return trm_stream_sum(c, dx);
}

void trm_linear_row_forward(struct trm_model_context *c, const struct trm_linear *layer,
                            struct trm_tensor y, struct trm_tensor x)
{
    struct trm_tensor weight = trm_context_parameter(c, layer->weight, layer->count);
    struct trm_tensor bias = trm_context_parameter(c, layer->bias, layer->count);

    if (!c->tensor_sum) {
        c->ops->linear_forward(c->device, y, none, x, weight, bias, TRM_ACT_NONE);
        return;
    }
    c->ops->linear_forward(c->device, y, none, x, weight, none, TRM_ACT_NONE);
    y = trm_stream_sum(c, y);
    c->ops->bias_forward(c->device, y, y, bias);
}

void trm_linear_row_backward(struct trm_model_context *c, const struct trm_linear *layer,
                             struct trm_tensor dx, struct trm_tensor dy, struct trm_tensor x,
                             struct trm_tensor pre, enum trm_activation activation)
{
    backward(c, layer, dx, trm_stream_gather(c, dy), x, pre, activation);
}
