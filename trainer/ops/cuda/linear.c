/*
 * Linear layers: matrix products with what goes before and after them inside, where the library
 * has that for the shapes at hand; elsewhere the same by kernels of our own. Which of the two is a
 * function of shapes, GPU and library, and is kept with the algorithms (choices.h).
 *
 * GELU and its slope are the library's for bfloat16 alone: float32 is for exactness, and there
 * activation_forward gives the bits of linear_forward. The gradient of a bias comes with the
 * gradient of the weight, which is float32 and reads dy anyway.
 */
#include "trainer/ops/cuda/product.h"

static bool in_product(enum trm_activation activation, struct trm_tensor out)
{
    return activation == TRM_ACT_GELU && out.type == TRM_BF16;
}

void trm_cuda_linear_forward(struct trm_device *dev, struct trm_tensor y, struct trm_tensor pre,
                             struct trm_tensor x, struct trm_tensor w, struct trm_tensor bias,
                             enum trm_activation activation)
{
    struct trm_cuda_product p = {.c = y, .a = x, .b = trm_tensor_transpose(w), .bias = bias};

    if (in_product(activation, y) && pre.data != NULL) {
        p.epilogue = TRM_CUDA_EPILOGUE_GELU;
        p.aux = pre;
        if (trm_cuda_multiply(dev, &p))
            return;
        p.epilogue = TRM_CUDA_EPILOGUE_NONE;
    }
    /* The argument of the activation goes where it is kept, or, when it is not, to y. */
    if (activation != TRM_ACT_NONE && pre.data != NULL)
        p.c = pre;
    if (!trm_cuda_multiply(dev, &p)) {
        p.bias.data = NULL;
        trm_cuda_multiply(dev, &p);
        trm_cuda_bias_forward(dev, p.c, p.c, bias);
    }
    if (activation != TRM_ACT_NONE)
        trm_cuda_activation_forward(dev, y, p.c, activation);
}

static void input_gradient(struct trm_device *dev, struct trm_tensor dx, struct trm_tensor dy,
                           struct trm_tensor w, struct trm_tensor pre,
                           enum trm_activation activation)
{
    struct trm_cuda_product p = {.c = dx, .a = dy, .b = w};

    if (in_product(activation, dx)) {
        p.epilogue = TRM_CUDA_EPILOGUE_GELU_SLOPE;
        p.aux = pre;
        if (trm_cuda_multiply(dev, &p))
            return;
        p.epilogue = TRM_CUDA_EPILOGUE_NONE;
    }
    trm_cuda_multiply(dev, &p);
    if (activation != TRM_ACT_NONE)
        trm_cuda_activation_backward(dev, dx, dx, pre, activation);
}

/* Both gradients of the parameters; the library overwrites sums, so those to add are made aside. */
static void parameter_gradients(struct trm_device *dev, struct trm_tensor dw,
                                struct trm_tensor dbias, struct trm_tensor dy, struct trm_tensor x,
                                bool accumulate)
{
    struct trm_cuda_product p = {
        .c = dw, .a = trm_tensor_transpose(dy), .b = x, .accumulate = accumulate};
    struct trm_tensor sums = dbias;

    if (dbias.data != NULL) {
        TRM_ASSERT(dbias.dims == 1 && dbias.shape[0] == dy.shape[1]);
        if (accumulate)
            sums.data =
                trm_cuda_workspace(dev, "linear_backward", (size_t)dbias.shape[0] * sizeof(float));
        p.epilogue = TRM_CUDA_EPILOGUE_ROW_SUMS;
        p.aux = sums;
        if (sums.data != NULL && trm_cuda_multiply(dev, &p)) {
            if (accumulate)
                trm_cuda_add(dev, dbias, dbias, sums);
            return;
        }
        p.epilogue = TRM_CUDA_EPILOGUE_NONE;
    }
    trm_cuda_multiply(dev, &p);
    if (dbias.data != NULL)
        trm_cuda_column_sums(dev, dbias, dy, accumulate);
}

void trm_cuda_linear_backward(struct trm_device *dev, struct trm_tensor dx, struct trm_tensor dw,
                              struct trm_tensor dbias, struct trm_tensor dy, struct trm_tensor x,
                              struct trm_tensor w, struct trm_tensor pre,
                              enum trm_activation activation, bool accumulate)
{
    if (dx.data != NULL)
        input_gradient(dev, dx, dy, w, pre, activation);
    parameter_gradients(dev, dw, dbias, dy, x, accumulate);
}
