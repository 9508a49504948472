/* Embeddings by token and by position of a device against the reference. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/ops/trial.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Tokens are drawn from [0, range); this rank holds [first_row, first_row + held). */
static const struct {
    int64_t rows, columns, held, first_row, range, gap;
} TOKENS[] = {
    {1, 1, 1, 0, 1, 0},          {17, 3, 5, 0, 5, 0},         {63, 65, 3, 0, 3, 2},
    {300, 17, 100, 50, 200, 0},  {129, 769, 64, 64, 128, 0},  {1025, 64, 7, 3, 20, 1},
    {65, 300, 2000, 0, 2000, 0}, {127, 129, 10, 500, 300, 0},
};

static void run_token_forward(struct trm_device *dev, const struct trial *t)
{
    dev->ops->embedding_forward(dev, t->operand[0].t, t->operand[1].t, t->operand[2].t,
                                t->number[0]);
}

static void run_token_backward(struct trm_device *dev, const struct trial *t)
{
    dev->ops->embedding_backward(dev, t->operand[0].t, t->operand[2].t, t->operand[1].t,
                                 t->number[0]);
}

static void embeddings_equal_the_reference(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(TOKENS); i++)
        for (int backward = 0; backward < 2; backward++) {
            const int64_t rows = TOKENS[i].rows, columns = TOKENS[i].columns, gap = TOKENS[i].gap;
            struct trial t;
            trial_begin(&t, backward ? run_token_backward : run_token_forward,
                        "embedding %s %d x %d of %d", backward ? "backward" : "forward", (int)rows,
                        (int)columns, (int)TOKENS[i].held);
            t.limits.max_rows = rows;
            t.limits.max_columns = columns;
            t.limits.vocabulary = TOKENS[i].held;
            t.number[0] = TOKENS[i].first_row;
            if (backward)
                trial_2d(&t, TRIAL_ACCUMULATED, TOKENS[i].held, columns, 0);
            else
                trial_2d(&t, TRIAL_OUTPUT, rows, columns, gap);
            trial_tokens(&t, rows, TOKENS[i].range);
            if (backward)
                trial_2d(&t, TRIAL_INPUT, rows, columns, gap);
            else
                trial_2d(&t, TRIAL_INPUT, TOKENS[i].held, columns, 0);
            /* Copies, and float sums in an order that the contract fixes. */
            t.operand[0].tolerance = backward ? 5e-7 : 0.0;
            t.half = TRIAL_HALF(2) | (backward ? 0 : TRIAL_HALF(0));
            trial_check(&t);
        }
}

static const struct {
    int64_t batch, seq_length, columns, positions, offset, gap;
} POSITIONS[] = {
    {1, 1, 1, 1, 0, 0},       {3, 1, 17, 64, 63, 0},    {2, 17, 65, 20, 0, 3},
    {5, 63, 64, 63, 0, 0},    {1, 129, 769, 300, 7, 0}, {17, 3, 300, 9, 6, 1},
    {3, 300, 129, 300, 0, 0},
};

static void run_position_forward(struct trm_device *dev, const struct trial *t)
{
    dev->ops->position_forward(dev, t->operand[0].t, t->operand[1].t, t->number[0], t->number[1]);
}

static void run_position_backward(struct trm_device *dev, const struct trial *t)
{
    dev->ops->position_backward(dev, t->operand[0].t, t->operand[1].t, t->number[0]);
}

static void positions_equal_the_reference(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(POSITIONS); i++)
        for (int backward = 0; backward < 2; backward++) {
            const int64_t rows = POSITIONS[i].batch * POSITIONS[i].seq_length;
            const int64_t columns = POSITIONS[i].columns, positions = POSITIONS[i].positions;
            struct trial t;
            trial_begin(&t, backward ? run_position_backward : run_position_forward,
                        "position %s %d x %d, offset %d", backward ? "backward" : "forward",
                        (int)rows, (int)columns, (int)POSITIONS[i].offset);
            t.number[0] = POSITIONS[i].seq_length;
            t.number[1] = POSITIONS[i].offset;
            if (backward) {
                trial_2d(&t, TRIAL_ACCUMULATED, positions, columns, 0);
                trial_2d(&t, TRIAL_INPUT, rows, columns, POSITIONS[i].gap);
            } else {
                trial_2d(&t, TRIAL_ACCUMULATED, rows, columns, POSITIONS[i].gap);
                trial_2d(&t, TRIAL_INPUT, positions, columns, 0);
            }
            t.operand[0].tolerance = backward ? 5e-7 : 0.0;
            t.half = TRIAL_HALF(1) | (backward ? 0 : TRIAL_HALF(0));
            trial_check(&t);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(embeddings_equal_the_reference),
        cmocka_unit_test(positions_equal_the_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
