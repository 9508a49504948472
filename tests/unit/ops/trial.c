#include "tests/unit/ops/trial.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/ops/trial_device.h"
#include "trainer/ops/reference/reference.h"

#define GUARD_BYTES 64
#define GUARD_BYTE  0x5A

/* Under a sanitizer the end of the allocation is the guard behind, so that reads are caught too. */
#ifdef TRM_SANITIZED
#define BACK_GUARD_BYTES 0
#else
#define BACK_GUARD_BYTES GUARD_BYTES
#endif

void trial_begin(struct trial *trial, void (*run)(struct trm_device *, const struct trial *),
                 const char *format, ...)
{
    va_list arguments;
    memset(trial, 0, sizeof(*trial));
    va_start(arguments, format);
    vsnprintf(trial->what, sizeof(trial->what), format, arguments);
    va_end(arguments);
    trial->run = run;
    trial->limits = (struct trm_ops_limits){
        .type = TRM_F32, .attention = {1, 1, 1, 1, 1, 0, 0, 1.0f}, .vocabulary = 0};
}

static int add_operand(struct trial *trial, enum trial_role role, struct trm_tensor t)
{
    struct trial_operand *o = &trial->operand[trial->count];
    int64_t span = 1;
    assert_true(trial->count < TRIAL_OPERANDS);
    for (int d = 0; d < t.dims; d++)
        span += (t.shape[d] - 1) * t.stride[d];
    *o = (struct trial_operand){.role = role,
                                .t = t,
                                .bytes = (size_t)span * trm_type_bytes(t.type),
                                .initial = t.data,
                                .tolerance = TRIAL_TOLERANCE};
    if (role == TRIAL_OUTPUT)
        tensor_fill(t, NAN);
    return trial->count++;
}

int trial_1d(struct trial *trial, enum trial_role role, int64_t n)
{
    return add_operand(trial, role, pool_1d(&trial->pool, TRM_F32, n));
}

int trial_2d(struct trial *trial, enum trial_role role, int64_t rows, int64_t columns, int64_t gap)
{
    struct trm_tensor wide = pool_2d(&trial->pool, TRM_F32, rows, columns + gap, 0);
    return add_operand(trial, role, trm_tensor_columns(wide, 0, columns));
}

int trial_double(struct trial *trial, enum trial_role role, int64_t n)
{
    return add_operand(trial, role, pool_1d(&trial->pool, TRM_F64, n));
}

int trial_tokens(struct trial *trial, int64_t n, int64_t limit)
{
    return add_operand(trial, TRIAL_INPUT, pool_tokens(&trial->pool, n, limit));
}

/* The operands' memory of one run: `shift` elements behind a 64-byte boundary. */
struct stage {
    char *memory[TRIAL_OPERANDS];
    char *workspace;
    size_t front_bytes[TRIAL_OPERANDS];
};

static char *guarded(size_t front_bytes, size_t bytes)
{
    void *memory = test_memory(front_bytes + bytes + BACK_GUARD_BYTES);
    memset(memory, GUARD_BYTE, front_bytes + bytes + BACK_GUARD_BYTES);
    return memory;
}

static bool guards_are_whole(const char *memory, size_t front_bytes, size_t bytes)
{
    for (size_t i = 0; i < front_bytes + bytes + BACK_GUARD_BYTES; i++)
        if ((i < front_bytes || i >= front_bytes + bytes) && memory[i] != GUARD_BYTE)
            return false;
    return true;
}

static void half_from_float(void *half, const void *floats, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        float value;
        memcpy(&value, (const char *)floats + i * sizeof(value), sizeof(value));
        const uint16_t bits = half_of(value);
        memcpy((char *)half + i * sizeof(bits), &bits, sizeof(bits));
    }
}

/* Replaces an operand in bfloat16 by one in float32, so that the checks know one type; its own
 * guards are checked here. */
static void widen(const struct trial *trial, struct stage *stage, int i, size_t half_bytes)
{
    const size_t bytes = trial->operand[i].bytes;
    char *half = stage->memory[i], *wide = guarded(GUARD_BYTES, bytes);
    if (!guards_are_whole(half, stage->front_bytes[i], half_bytes))
        fail_msg("%s: operand %d: written outside", trial->what, i);
    for (size_t k = 0; k < bytes / sizeof(float); k++) {
        uint16_t bits;
        memcpy(&bits, half + stage->front_bytes[i] + k * sizeof(bits), sizeof(bits));
        const float value = float_of_half(bits);
        memcpy(wide + GUARD_BYTES + k * sizeof(value), &value, sizeof(value));
    }
    test_memory_free(half);
    stage->memory[i] = wide;
    stage->front_bytes[i] = GUARD_BYTES;
}

/* The operand's elements, from the first to the last of the view, in the type of this run. */
static size_t staged_bytes(const struct trial_operand *o)
{
    return o->bytes / sizeof(float) * trm_type_bytes(o->t.type);
}

static void run_on(struct trial *trial, struct trm_device *dev, size_t shift, struct stage *stage)
{
    struct trial staged = *trial;
    for (int i = 0; i < trial->count; i++) {
        struct trial_operand *o = &staged.operand[i];
        const bool is_half = dev->ops->name[0] != 'r' && trial->half & 1u << i;
        if (is_half)
            o->t.type = TRM_BF16;
        const size_t bytes = is_half ? staged_bytes(o) : o->bytes;
        stage->front_bytes[i] = GUARD_BYTES + shift * trm_type_bytes(o->t.type);
        stage->memory[i] = guarded(stage->front_bytes[i], bytes);
        o->t.data = stage->memory[i] + stage->front_bytes[i];
        if (is_half)
            half_from_float(o->t.data, o->initial, o->bytes / sizeof(float));
        else
            memcpy(o->t.data, o->initial, bytes);
        o->bytes = bytes;
    }
    dev->workspace_bytes = dev->ops->workspace_bytes(dev, &trial->limits);
    stage->workspace = guarded(0, dev->workspace_bytes);
    memset(stage->workspace, 0xFF, dev->workspace_bytes); /* NaN */
    dev->workspace = stage->workspace;
    trial->run(dev, &staged);
    struct trm_error err = {0};
    if (trm_device_sync(dev, &err) != TRM_OK)
        fail_msg("%s: %s: %s", trial->what, dev->ops->name, err.text);
    if (!guards_are_whole(stage->workspace, 0, dev->workspace_bytes))
        fail_msg("%s: %s wrote behind its workspace", trial->what, dev->ops->name);
    for (int i = 0; i < trial->count; i++)
        if (staged.operand[i].t.type == TRM_BF16)
            widen(trial, stage, i, staged.operand[i].bytes);
}

static void stage_free(struct stage *stage, int count)
{
    for (int i = 0; i < count; i++)
        test_memory_free(stage->memory[i]);
    test_memory_free(stage->workspace);
}

/* Nothing but the elements of outputs changed. */
static void check_untouched(const struct trial *trial, const struct stage *stage)
{
    for (int i = 0; i < trial->count; i++) {
        const struct trial_operand *o = &trial->operand[i];
        const char *data = stage->memory[i] + stage->front_bytes[i];
        if (!guards_are_whole(stage->memory[i], stage->front_bytes[i], o->bytes))
            fail_msg("%s: operand %d: written outside", trial->what, i);
        if (o->role == TRIAL_INPUT && memcmp(data, o->initial, o->bytes) != 0)
            fail_msg("%s: operand %d: an input was written", trial->what, i);
        if (o->t.dims != 2)
            continue;
        const size_t size = trm_type_bytes(o->t.type);
        const size_t row_bytes = (size_t)o->t.stride[0] * size;
        const size_t used = (size_t)o->t.shape[1] * size;
        for (int64_t row = 0; row + 1 < o->t.shape[0]; row++) {
            const size_t gap = (size_t)row * row_bytes + used;
            if (memcmp(data + gap, o->initial + gap, row_bytes - used) != 0)
                fail_msg("%s: operand %d: the gap behind row %d was written", trial->what, i,
                         (int)row);
        }
    }
}

static void check_values(const struct trial *trial, const struct stage *got,
                         const struct stage *want)
{
    for (int i = 0; i < trial->count; i++) {
        const struct trial_operand *o = &trial->operand[i];
        struct trm_tensor a = o->t, b = o->t;
        double difference = 0.0, norm = 0.0;
        a.data = got->memory[i] + got->front_bytes[i];
        b.data = want->memory[i] + want->front_bytes[i];
        const int64_t elements = trm_tensor_elements(a);
        for (int64_t k = 0; k < elements; k++) {
            const double x = tensor_get(a, k), y = tensor_get(b, k);
            if (x == y || (isnan(x) && isnan(y))) {
                norm += isfinite(y) ? y * y : 0.0;
                continue;
            }
            if (!isfinite(x) || !isfinite(y))
                fail_msg("%s: operand %d: element %lld is %g, the reference has %g", trial->what, i,
                         (long long)k, x, y);
            difference += (x - y) * (x - y);
            norm += y * y;
        }
        const double size = sqrt(norm) + o->magnitude * sqrt((double)elements);
        const double tolerance = trial->half ? TRIAL_HALF_TOLERANCE : o->tolerance * trial_slack();
        if (!(sqrt(difference) <= tolerance * size))
            fail_msg("%s: operand %d: off by %.3e, relative to a norm of %.3e", trial->what, i,
                     sqrt(difference) / size, size);
    }
}

static void check_same_bits(const struct trial *trial, const struct stage *a, const struct stage *b,
                            int run)
{
    for (int i = 0; i < trial->count; i++)
        if (memcmp(a->memory[i] + a->front_bytes[i], b->memory[i] + b->front_bytes[i],
                   trial->operand[i].bytes) != 0)
            fail_msg("%s: operand %d: other bits %s than %s", trial->what, i, trial_run_name(run),
                     trial_run_name(0));
}

static void default_limits(struct trial *trial)
{
    int64_t rows = 1, columns = 1;
    for (int i = 0; i < trial->count; i++) {
        const struct trm_tensor t = trial->operand[i].t;
        const int64_t last = t.shape[t.dims - 1];
        rows = t.dims == 2 && t.shape[0] > rows ? t.shape[0] : rows;
        columns = last > columns ? last : columns;
    }
    if (trial->limits.max_rows == 0)
        trial->limits.max_rows = rows;
    if (trial->limits.max_columns == 0)
        trial->limits.max_columns = columns;
}

/* All runs of the device in the types that `trial->half` says. */
static void check_runs(struct trial *trial)
{
    struct trm_device reference;
    struct stage want = {0}, first = {0};
    trm_device_reference(&reference);
    run_on(trial, &reference, 0, &want);
    check_untouched(trial, &want);
    for (int r = 0; r < trial_runs(); r++) {
        struct stage got = {0};
        size_t shift;
        struct trm_device dev = trial_open(r, &shift);
        run_on(trial, &dev, shift, &got);
        check_untouched(trial, &got);
        /* A GPU is the device that takes bfloat16. */
        const bool may_differ = trial->by_alignment && trial_has_half() && shift != 0;
        if (r == 0 || may_differ)
            check_values(trial, &got, &want);
        else
            check_same_bits(trial, &got, &first, r);
        if (r == 0)
            first = got;
        else
            stage_free(&got, trial->count);
    }
    stage_free(&first, trial->count);
    stage_free(&want, trial->count);
}

/* The same operands, rounded to what they will be held in. */
static void round_halves(struct trial *trial)
{
    for (int i = 0; i < trial->count; i++) {
        const struct trial_operand *o = &trial->operand[i];
        for (size_t k = 0; trial->half & 1u << i && k < o->bytes / sizeof(float); k++) {
            float value;
            memcpy(&value, o->initial + k * sizeof(value), sizeof(value));
            value = float_of_half(half_of(value));
            memcpy(o->initial + k * sizeof(value), &value, sizeof(value));
        }
    }
}

void trial_check(struct trial *trial)
{
    const unsigned half = trial_has_half() ? trial->half : 0;
    default_limits(trial);
    trial->half = 0;
    check_runs(trial);
    if (half != 0) {
        trial->half = half;
        strncat(trial->what, " in bfloat16", sizeof(trial->what) - strlen(trial->what) - 1);
        round_halves(trial);
        check_runs(trial);
    }
    pool_free(&trial->pool);
}

struct trm_device trial_device(struct pool *pool, const struct trm_ops_limits *limits)
{
    size_t shift;
    struct trm_device dev = trial_open(trial_runs() - 1, &shift);
    dev.workspace_bytes = dev.ops->workspace_bytes(&dev, limits);
    dev.workspace = pool_alloc(pool, dev.workspace_bytes);
    return dev;
}
