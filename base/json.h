/* Jansson, bounded: documents over a size or nested deeper than 64 are refused with place and
 * reason, duplicate keys too. The getters check type and range and name the key in the error. */
#ifndef TRM_BASE_JSON_H
#define TRM_BASE_JSON_H

#include <jansson.h>
#include <stdint.h>

#include "base/status.h"

/* Parses text; `name` is for messages. *value is returned owned (json_decref). */
enum trm_status trm_json_parse(const char *text, size_t bytes, const char *name, json_t **value,
                               struct trm_error *err);

/* The file, at most `limit_bytes` of it. *value is returned owned. */
enum trm_status trm_json_load(const char *path, size_t limit_bytes, json_t **value,
                              struct trm_error *err);

/* Borrowed members of an object, with their type demanded. */
enum trm_status trm_json_get_int(const json_t *object, const char *key, int64_t minimum,
                                 int64_t maximum, int64_t *out, struct trm_error *err);
enum trm_status trm_json_get_double(const json_t *object, const char *key, double *out,
                                    struct trm_error *err);
enum trm_status trm_json_get_string(const json_t *object, const char *key, const char **out,
                                    struct trm_error *err);
enum trm_status trm_json_get_array(const json_t *object, const char *key, size_t maximum_length,
                                   json_t **out, struct trm_error *err);
enum trm_status trm_json_get_object(const json_t *object, const char *key, json_t **out,
                                    struct trm_error *err);

/* 64-bit hashes travel as 16 hexadecimal digits: JSON numbers lose bits in some readers. */
enum trm_status trm_json_get_hex64(const json_t *object, const char *key, uint64_t *out,
                                   struct trm_error *err);
json_t *trm_json_hex64(uint64_t value);

#endif
