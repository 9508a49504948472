/*
 * A short check that this machine computes what it should: products, a norm, attention and an AdamW
 * update of fixed random numbers, forward and backward, compared with the reference ops, and done
 * twice for the same bits. Before an attempt each node runs it (`trireme-train --self-test`), and
 * nodes whose checksums differ would not give the same bits.
 *
 * Not collective, no MPI. A few MiB for the time of the call; under 100 ms on an idle machine.
 */
#ifndef TRM_TRAINER_SELF_TEST_H
#define TRM_TRAINER_SELF_TEST_H

#include <stdint.h>

#include "trainer/config/config.h"
#include "trainer/ops/ops.h"

struct trm_self_test {
    char fingerprint[256]; /* trm_device_describe: what decides the bits */
    uint64_t checksum;     /* of all results: equal where all ops give the same bits */
    double largest_error;  /* relative, of the worst result */
    double seconds;
};

/* Runs the check on `dev`, which has no workspace yet and has none afterwards. TRM_ERR_INTERNAL:
 * the machine computes wrongly, and how. */
enum trm_status trm_self_test_run(struct trm_device *dev, struct trm_self_test *out,
                                  struct trm_error *err);

/* The check on all cores of this machine or, unless `kind` is the CPU, on each of its GPUs, where
 * it has any; as one line of JSON without its newline: version, fingerprint, checksum (16
 * hexadecimal digits), largest_error, memory_bytes (available), cores, gpus (that were tested),
 * seconds. *text is returned owned (free). TRM_ERR_UNSUPPORTED: GPUs were asked for and there are
 * none. TRM_ERR_INTERNAL also when GPUs of this machine give different bits. */
enum trm_status trm_self_test_report(const char *version, enum trm_device_kind kind, char **text,
                                     struct trm_error *err);

#endif
