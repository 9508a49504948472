/* A model over a tensor group, with its stream whole and cut by rows: the same bits but for the
 * gradients of norms, which are sums of the ranks' sums. */
#include "world.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "tests/unit/model/fixture.h"

#define ROWS 12

static const char config_format[] =
    "model: {num_layers: 3, hidden_size: 24, num_attention_heads: 12, seq_length: 6, vocab_size: "
    "29,\n"
    "        make_vocab_size_divisible_by: 8}\n"
    "training: {micro_batch_size: 2, global_batch_size: 2}\n"
    "parallel: {tensor_model_parallel_size: %d, sequence_parallel: %s}\n"
    "data: {train_data_path: [none]}\n";

static void open_model(struct fixture *f, struct trm_comm *tensor, bool cut, enum trm_type type,
                       enum trm_recompute recompute)
{
    char config[512];
    const struct fixture_setup setup = {.tensor = tensor,
                                        .config = config,
                                        .type = type,
                                        .reference = type == TRM_F64,
                                        .recompute = recompute};
    snprintf(config, sizeof config, config_format, tensor->size, cut ? "true" : "false");
    fixture_open_setup(f, &setup);
    /* What lay there before must not matter. */
    for (int t = 0; t < f->layout->tensor_count; t++)
        for (int64_t e = 0; e < f->layout->tensors[t].elements; e++)
            fixture_set(f, f->gradients, f->layout->tensors[t].offset + e, NAN);
}

/* Two micro-batches; the sum of their losses, or NaN for a failure. */
static double train(struct fixture *f)
{
    int32_t inputs[ROWS], targets[ROWS];
    struct trm_exact_sum sum;

    trm_exact_sum_init(&sum);
    for (int which = 0; which < 2; which++) {
        fixture_tokens(f, which, inputs, targets);
        if (trm_model_forward_backward(f->model, inputs, targets, f->gradients, which > 0, NULL,
                                       &sum, NULL) != TRM_OK)
            return NAN;
    }
    return trm_exact_sum_value(&sum);
}

static bool is_of_a_norm(const struct trm_layout_tensor *t)
{
    return strstr(t->spec.name, "norm") != NULL;
}

static double tolerance_of(enum trm_type type)
{
    return type == TRM_F64 ? 1e-13 : 2e-5;
}

/* Both of one tensor: the same bits, or near. */
static bool agree(const struct fixture *a, const struct fixture *b, int tensor)
{
    const struct trm_layout_tensor *t = &a->layout->tensors[tensor];
    double difference = 0, size = 0;

    for (int64_t i = t->offset; i < t->offset + t->elements; i++) {
        double x = fixture_get(a, a->gradients, i), y = fixture_get(b, b->gradients, i);
        if (isnan(x) || isnan(y) || (!is_of_a_norm(t) && x != y))
            return false;
        difference += (x - y) * (x - y);
        size += x * x;
    }
    /* One of padding alone is zero. */
    return difference == 0 || sqrt(difference) < tolerance_of(a->type) * sqrt(size);
}

static void a_cut_stream_changes_no_bit_but_in_gradients_of_norms(void **state)
{
    struct trm_comm *world = *state;
    bool ok = true;

    for (int trial = 0; trial < 4; trial++) {
        static const enum trm_recompute levels[] = {TRM_RECOMPUTE_NONE, TRM_RECOMPUTE_NONE,
                                                    TRM_RECOMPUTE_ATTENTION, TRM_RECOMPUTE_FULL};
        enum trm_type type = trial == 0 ? TRM_F64 : TRM_F32;
        struct fixture whole, cut;
        open_model(&whole, world, false, type, levels[trial]);
        open_model(&cut, world, true, type, levels[trial]);
        double loss = train(&whole), cut_loss = train(&cut);
        ok = ok && loss > 0 && cut_loss == loss;
        for (int t = 0; t < whole.layout->tensor_count; t++)
            ok = ok && agree(&whole, &cut, t);
        if (world->size > 1) /* each rank keeps its rows alone */
            ok = ok && cut.arena.category_bytes[TRM_ARENA_ACTIVATIONS] <
                           whole.arena.category_bytes[TRM_ARENA_ACTIVATIONS];
        fixture_close(&whole);
        fixture_close(&cut);
    }
    assert_on_all_ranks(world, ok);
}

/* Replicas are updated by each rank for itself. */
static void ranks_agree_on_gradients_of_what_they_all_hold(void **state)
{
    struct trm_comm *world = *state;
    struct fixture f;
    bool ok = true;
    int compared = 0;

    open_model(&f, world, true, TRM_F32, TRM_RECOMPUTE_NONE);
    ok = train(&f) > 0;
    for (int i = 0; i < f.layout->tensor_count; i++) {
        const struct trm_layout_tensor *t = &f.layout->tensors[i];
        size_t bytes = (size_t)t->elements * sizeof(float);
        const char *mine = (const char *)f.gradients + (size_t)t->offset * sizeof(float);
        char *all = malloc((size_t)world->size * bytes);
        if (t->spec.split == TRM_SPLIT_NONE) {
            compared++;
            ok = !trm_comm_all_gather(world, mine, all, bytes, NULL, NULL) && ok;
            for (int rank = 0; rank < world->size; rank++)
                ok = ok && memcmp(all + (size_t)rank * bytes, mine, bytes) == 0;
        }
        free(all);
    }
    fixture_close(&f);
    assert_on_all_ranks(world, ok && compared == 1 + 3 * 6 + 2);
}

/* Against a model on one rank, whose gradients are known to be right (test_model_gradients). */
static void gradients_are_those_of_one_rank(void **state)
{
    struct trm_comm *world = *state, *self = NULL;
    struct fixture part, one;
    bool ok = trm_comm_self(&self, NULL) == TRM_OK;

    open_model(&part, world, true, TRM_F64, TRM_RECOMPUTE_NONE);
    open_model(&one, self, true, TRM_F64, TRM_RECOMPUTE_NONE);
    double a = train(&part), b = train(&one), difference = 0, size = 0;
    ok = ok && fabs(a - b) < 1e-12 * b;
    for (int i = 0; i < part.layout->tensor_count; i++) {
        const struct trm_layout_tensor *t = &part.layout->tensors[i], *u = &one.layout->tensors[i];
        for (int64_t e = 0; e < t->valid_rows * t->columns; e++) {
            int64_t row = t->first_row + e / t->columns, column = t->first_column + e % t->columns;
            double x = fixture_get(&part, part.gradients, t->offset + e);
            double y = fixture_get(&one, one.gradients, u->offset + row * u->columns + column);
            difference += (x - y) * (x - y);
            size += y * y;
        }
    }
    ok = ok && size > 0 && sqrt(difference) < 1e-12 * sqrt(size);
    fixture_close(&part);
    fixture_close(&one);
    trm_comm_destroy(self);
    assert_on_all_ranks(world, ok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cut_stream_changes_no_bit_but_in_gradients_of_norms),
        cmocka_unit_test(ranks_agree_on_gradients_of_what_they_all_hold),
        cmocka_unit_test(gradients_are_those_of_one_rank),
    };
    return cmocka_run_group_tests(tests, world_start, world_finish);
}
