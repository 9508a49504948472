/*
 * An op of a device (trial_device.h) against the reference, with all that the contract of ops.h
 * promises:
 * - the values, to a relative error in the Euclidean norm;
 * - what is overwritten is never read (it starts as NaN), what accumulates starts as random values;
 * - nothing else is written: inputs, the gaps between rows, and guards around each operand and
 *   behind the workspace;
 * - the workspace of workspace_bytes() for the trial's limits is enough (it starts as NaN);
 * - the same bits in all runs of the device: at other numbers of threads, at other addresses (but
 *   for products, where the device has matrices of other alignments multiplied by other means);
 * - the same, within what it warrants, with bfloat16 operands, where the device takes them.
 *
 * A test begins a trial, adds its operands (random values, to be changed through operand[i].t),
 * and checks it, which frees everything.
 */
#ifndef TRM_TESTS_UNIT_OPS_TRIAL_H
#define TRM_TESTS_UNIT_OPS_TRIAL_H

#include "tests/unit/ops/support.h"

#define TRIAL_OPERANDS 12

/* What float32 warrants: elementary functions good to two bits, sums of some hundred terms, errors
 * of single elements averaged by the norm. */
#define TRIAL_TOLERANCE 1e-6

/* For products with sums of up to 3,072 terms, in any order. */
#define TRIAL_PRODUCT_TOLERANCE 2e-6

/* For operands of bfloat16, whose steps are 0.4 % of the value. */
#define TRIAL_HALF_TOLERANCE 1e-2

enum trial_role { TRIAL_INPUT, TRIAL_OUTPUT, TRIAL_ACCUMULATED };

struct trial_operand {
    enum trial_role role;
    struct trm_tensor t; /* a view of `initial`; in `run`, of the memory of that run */
    size_t bytes;        /* from the first to the last element of the view */
    char *initial;
    double tolerance;
    double magnitude; /* typical size of the terms that may cancel: 0 when they don't */
};

struct trial {
    struct pool pool;
    char what[160]; /* for the message of a failure */
    struct trial_operand operand[TRIAL_OPERANDS];
    int count;
    bool by_alignment; /* addresses may change bits, as products may on a GPU */
    unsigned half;     /* bits of the operands that may be bfloat16 */
    struct trm_ops_limits limits;
    void (*run)(struct trm_device *dev, const struct trial *trial);
    /* For `run`. */
    struct trm_attention attention;
    struct trm_adamw adamw;
    enum trm_activation activation;
    int64_t number[2];
    bool flag;
};

/* `limits` starts with the largest sizes of the operands added, unless the test sets them. */
void trial_begin(struct trial *trial, void (*run)(struct trm_device *, const struct trial *),
                 const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Each returns the operand's number. A gap of unused elements follows each row. */
int trial_1d(struct trial *trial, enum trial_role role, int64_t n);
int trial_2d(struct trial *trial, enum trial_role role, int64_t rows, int64_t columns, int64_t gap);
int trial_double(struct trial *trial, enum trial_role role, int64_t n);
int trial_tokens(struct trial *trial, int64_t n, int64_t limit);

/* Operands, by their numbers, that may be bfloat16. */
#define TRIAL_HALF(operand) (1u << (operand))

/* Runs on the reference and in all runs of the device, and fails the test or frees. */
void trial_check(struct trial *trial);

/* The device of a run with a workspace for `limits`; for tests without a trial. */
struct trm_device trial_device(struct pool *pool, const struct trm_ops_limits *limits);

#endif
