/* What the configuration's tests share: cmocka, and a configuration made from text. */
#ifndef TRM_TESTS_UNIT_CONFIG_SUPPORT_H
#define TRM_TESTS_UNIT_CONFIG_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "trainer/config/keys.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static inline struct trm_config *make_config(void)
{
    struct trm_config *config = NULL;
    struct trm_error err = {0};
    assert_int_equal(trm_config_create(&config, &err), TRM_OK);
    return config;
}

/* The configuration as YAML, returned owned. */
static inline char *yaml_of(const struct trm_config *config)
{
    char *text = trm_config_to_yaml(config);
    assert_non_null(text);
    return text;
}

static inline void load_text(struct trm_config *config, const char *text)
{
    struct trm_error err = {0};
    if (trm_config_load_text(config, text, strlen(text), "t.yaml", &err) != TRM_OK)
        fail_msg("%s", err.text);
}

/* A path in the source tree. Returns `path`. */
static inline const char *source_path(char path[1024], const char *name)
{
    const char *root = getenv("TRIREME_SOURCE");
    if (!root)
        fail_msg("TRIREME_SOURCE must name the source tree; run this test by ctest");
    snprintf(path, 1024, "%s/%s", root, name);
    return path;
}

#endif
