#include "launch/agent/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/link/report.h"

#define MOST_MS    INT64_C(86400000000) /* 1,000 days */
#define MOST_BYTES INT64_C(1000000000000000000)

/* "host:port" or "[address]:port". */
static enum trm_status parse_address(const char *text, struct trm_agent_address *out,
                                     struct trm_error *err)
{
    const char *colon = strrchr(text, ':'), *begin = text, *end = colon;
    char *rest = NULL;
    long port = colon ? strtol(colon + 1, &rest, 10) : 0;
    if (colon && text[0] == '[' && colon > text + 1 && colon[-1] == ']') {
        begin = text + 1;
        end = colon - 1;
    }
    if (!colon || end == begin || (size_t)(end - begin) >= sizeof out->host || !colon[1] || *rest ||
        port < 1 || port > 65535)
        return trm_error_set(err, TRM_ERR_CONFIG, "the address \"%.300s\" is not HOST:PORT", text);
    memcpy(out->host, begin, (size_t)(end - begin));
    out->host[end - begin] = '\0';
    out->port = (int)port;
    return TRM_OK;
}

static enum trm_status parse_addresses(const json_t *object, struct trm_agent_options *options,
                                       struct trm_error *err)
{
    json_t *list = NULL;
    enum trm_status status =
        trm_json_get_array(object, "addresses", TRM_AGENT_MAX_ADDRESSES, &list, err);
    if (status != TRM_OK)
        return status;
    options->address_count = (int)json_array_size(list);
    if (options->address_count == 0)
        return trm_error_set(err, TRM_ERR_CONFIG, "\"addresses\" names no supervisor");
    for (int i = 0; i < options->address_count && status == TRM_OK; i++) {
        const char *text = json_string_value(json_array_get(list, (size_t)i));
        status = parse_address(text ? text : "", &options->addresses[i], err);
    }
    return status;
}

static enum trm_status parse_object(const json_t *object, struct trm_agent_options *options,
                                    struct trm_error *err)
{
    char token[2 * TRM_WIRE_TOKEN_BYTES + 1] = "";
    struct trm_fields fields = {.object = object, .err = err};
    trm_fields_text(&fields, "token", token, sizeof token);
    trm_fields_text(&fields, "run_id", options->run_id, sizeof options->run_id);
    trm_fields_text(&fields, "node", options->node, sizeof options->node);
    trm_fields_text(&fields, "runtime", options->runtime, sizeof options->runtime);
    options->lease_ms = trm_fields_int(&fields, "lease_ms", 1, MOST_MS);
    options->heartbeat_ms = trm_fields_int(&fields, "heartbeat_ms", 1, MOST_MS);
    options->linger_ms = trm_fields_int(&fields, "linger_ms", 1, MOST_MS);
    options->memory_limit = trm_fields_int(&fields, "memory_limit", 0, MOST_BYTES);
    options->foreground = trm_fields_bool(&fields, "foreground");
    trm_fields_text(&fields, "orphan_command", options->orphan_command,
                    sizeof options->orphan_command);
    options->orphan_delay_ms = trm_fields_int(&fields, "orphan_delay_ms", 0, MOST_MS);
    enum trm_status status = fields.status;
    if (status == TRM_OK)
        status = parse_addresses(object, options, err);
    if (status == TRM_OK)
        status = trm_wire_token_parse(token, &options->token, err);
    explicit_bzero(token, sizeof token);
    if (status != TRM_OK)
        return status;
    if (options->runtime[0] != '/')
        return trm_error_set(err, TRM_ERR_CONFIG, "\"runtime\" is \"%s\"; it must begin with \"/\"",
                             options->runtime);
    if (options->heartbeat_ms * 2 > options->lease_ms || options->linger_ms < options->lease_ms)
        return trm_error_set(
            err, TRM_ERR_CONFIG,
            "a heartbeat of %lld ms, a lease of %lld ms and a linger of %lld ms do "
            "not fit: two heartbeats must fit a lease, and a lease the linger",
            (long long)options->heartbeat_ms, (long long)options->lease_ms,
            (long long)options->linger_ms);
    return TRM_OK;
}

enum trm_status trm_agent_options_parse(const char *line, size_t bytes,
                                        struct trm_agent_options *options, struct trm_error *err)
{
    struct trm_agent_options parsed = {0};
    json_t *object = NULL;
    enum trm_status status = trm_json_parse(line, bytes, "standard input", &object, err);
    if (status == TRM_OK)
        status = parse_object(object, &parsed, err);
    json_decref(object);
    if (status == TRM_OK)
        *options = parsed;
    trm_wire_token_forget(&parsed.token);
    if (status != TRM_OK)
        return trm_error_set(err, TRM_ERR_CONFIG, "the agent's options: %s", err ? err->text : "");
    return TRM_OK;
}

enum trm_status trm_agent_options_format(const struct trm_agent_options *options, char **line,
                                         struct trm_error *err)
{
    char token[2 * TRM_WIRE_TOKEN_BYTES + 1];
    json_t *addresses = json_array();
    for (int i = 0; i < options->address_count; i++) {
        const struct trm_agent_address *address = &options->addresses[i];
        bool six = strchr(address->host, ':') != NULL;
        json_array_append_new(addresses, json_sprintf("%s%s%s:%d", six ? "[" : "", address->host,
                                                      six ? "]" : "", address->port));
    }
    trm_wire_token_format(&options->token, token);
    json_t *object =
        json_pack("{s:s,s:s,s:s,s:s,s:o,s:I,s:I,s:I,s:I,s:b,s:s,s:I}", "token", token, "run_id",
                  options->run_id, "node", options->node, "runtime", options->runtime, "addresses",
                  addresses, "lease_ms", (json_int_t)options->lease_ms, "heartbeat_ms",
                  (json_int_t)options->heartbeat_ms, "linger_ms", (json_int_t)options->linger_ms,
                  "memory_limit", (json_int_t)options->memory_limit, "foreground",
                  (int)options->foreground, "orphan_command", options->orphan_command,
                  "orphan_delay_ms", (json_int_t)options->orphan_delay_ms);
    explicit_bzero(token, sizeof token);
    char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    size_t bytes = text ? strlen(text) : 0;
    char *made = text && bytes + 2 <= TRM_AGENT_LINE_BYTES ? malloc(bytes + 2) : NULL;
    if (made) {
        memcpy(made, text, bytes);
        memcpy(made + bytes, "\n", 2);
        *line = made;
    }
    if (text)
        explicit_bzero(text, bytes);
    free(text);
    json_decref(object);
    return made ? TRM_OK
                : trm_error_set(err, TRM_ERR_MEMORY,
                                "the agent's options could not be written: too long, not UTF-8, or "
                                "out of memory");
}
