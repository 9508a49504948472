/*
 * The configuration: one YAML file and command-line overrides, against the one table keys.def.
 *
 * Strict: unknown keys, wrong types, values out of range, duplicates and empty files are refused
 * with file, line, the offending value and what would fit (TRM_ERR_CONFIG). A value given on the
 * command line wins over the file's. Plain data once loaded; strings are owned by the struct.
 */
#ifndef TRM_TRAINER_CONFIG_CONFIG_H
#define TRM_TRAINER_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/status.h"

/* Of a configuration as text: a file, and the resolved one, which checkpoints carry. */
#define TRM_CONFIG_TEXT_BYTES (1 << 20)

enum trm_key_class { TRM_CLASS_IDENTITY, TRM_CLASS_NUMERICS, TRM_CLASS_SCHEDULE, TRM_CLASS_LAYOUT };
enum trm_architecture { TRM_ARCHITECTURE_GPT2 };
enum trm_precision { TRM_PRECISION_FP32, TRM_PRECISION_BF16 };
enum trm_recompute { TRM_RECOMPUTE_NONE, TRM_RECOMPUTE_ATTENTION, TRM_RECOMPUTE_FULL };
enum trm_reduction_kind { TRM_REDUCTION_FIXED_ORDER, TRM_REDUCTION_FASTEST };
enum trm_device_kind { TRM_DEVICE_AUTO, TRM_DEVICE_CPU, TRM_DEVICE_CUDA };
enum trm_binding_kind { TRM_BINDING_AUTO, TRM_BINDING_LAUNCHER };
enum trm_decay_style { TRM_DECAY_CONSTANT, TRM_DECAY_LINEAR, TRM_DECAY_COSINE, TRM_DECAY_WSD };
enum trm_guard_policy { TRM_GUARD_STOP, TRM_GUARD_SKIP, TRM_GUARD_ROLLBACK };
enum trm_launcher_kind { TRM_LAUNCH_AUTO, TRM_LAUNCH_MPIRUN, TRM_LAUNCH_SRUN };
enum trm_raw_token_type { TRM_RAW_UINT16, TRM_RAW_UINT32 };

struct trm_string_list {
    int count;
    char **items; /* owned */
};

struct trm_config {
#define KEY_INT(section, name, ...)    int64_t name;
#define KEY_FLOAT(section, name, ...)  double name;
#define KEY_BOOL(section, name, ...)   bool name;
#define KEY_STRING(section, name, ...) char *name;
#define KEY_ENUM(section, name, ...)   int name;
#define KEY_LIST(section, name, ...)   struct trm_string_list name;
#include "trainer/config/keys.def"
#undef KEY_INT
#undef KEY_FLOAT
#undef KEY_BOOL
#undef KEY_STRING
#undef KEY_ENUM
#undef KEY_LIST
    /* Derived by trm_config_check; 0 before it, and again after a load. */
    int64_t accumulation;  /* micro-batches per lane and step */
    double train_fraction; /* of each training file, from its start, by `split`: in (0, 1] */
};

/* All defaults. *out is returned owned. */
enum trm_status trm_config_create(struct trm_config **out, struct trm_error *err);
void trm_config_destroy(struct trm_config *config);

/* Reads a YAML file over what is there. At most 1 MiB. Every failure, a missing file included, is
 * TRM_ERR_CONFIG "file:line:column: ..." (or TRM_ERR_MEMORY) and leaves the configuration as it
 * was; so do the two below. Success moves strings: pointers taken before are stale. */
enum trm_status trm_config_load_file(struct trm_config *config, const char *path,
                                     struct trm_error *err);

/* YAML text (a checkpoint's, a test's); `name` is for messages. */
enum trm_status trm_config_load_text(struct trm_config *config, const char *text, size_t bytes,
                                     const char *name, struct trm_error *err);

/* `--num-layers 12` or `--num-layers=12`, also the aliases --dp --tp --mbs --gbs; lists take
 * several values up to the next flag and replace the file's; `--list=` empties one. argv holds
 * flags alone, neither the program's name nor the file's. */
enum trm_status trm_config_load_arguments(struct trm_config *config, int argc, char **argv,
                                          struct trm_error *err);

/* What one key alone can't tell: divisibility, batch = micro x accumulation x lanes, sizes against
 * `world_size` ranks (0: not known). Fills the derived fields and replaces what means "derive" in
 * ffn_hidden_size, lanes, lr_decay_iters, lr_wsd_decay_iters (style wsd alone) and save; what
 * depends on the machine (data_parallel_size, cpu_threads) stays 0. A checked configuration checks
 * again without a change. TRM_ERR_CONFIG is one sentence that says what would fit, and changes
 * nothing. */
enum trm_status trm_config_check(struct trm_config *config, int world_size, struct trm_error *err);

/* Whether tensor-parallel ranks can share the rows of a micro-batch as sequence_parallel wants. */
bool trm_config_shares_rows(const struct trm_config *config);

/* The whole configuration as YAML that trm_config_load_text reads back equal, returned owned
 * (free): doubles in the shortest form that reads back equal. NULL when out of memory. */
char *trm_config_to_yaml(const struct trm_config *config);

/* Called for each key whose value differs between two configurations. */
typedef void (*trm_config_difference_fn)(void *context, const char *name, enum trm_key_class class_,
                                         const char *before, const char *after);
void trm_config_compare(const struct trm_config *before, const struct trm_config *after,
                        trm_config_difference_fn report, void *context);

/* Every key with flag, type, default, range, unit, class and help, for --help; 100 columns. */
void trm_config_print_help(FILE *out);

#endif
