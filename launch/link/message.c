#include "launch/link/message.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"

#define MOST       TRM_REPORT_MAX_COUNT
#define MOST_BYTES INT64_C(1000000000000000000)

static const char *const type_names[TRM_MESSAGE_TYPES] = {
    [TRM_MESSAGE_HELLO] = "hello", [TRM_MESSAGE_BEAT] = "beat",   [TRM_MESSAGE_BEGUN] = "begun",
    [TRM_MESSAGE_GONE] = "gone",   [TRM_MESSAGE_DEAD] = "dead",   [TRM_MESSAGE_HEALTH] = "health",
    [TRM_MESSAGE_NOTE] = "note",   [TRM_MESSAGE_BYE] = "bye",     [TRM_MESSAGE_ASKED] = "asked",
    [TRM_MESSAGE_ACK] = "ack",     [TRM_MESSAGE_BEGIN] = "begin", [TRM_MESSAGE_KILL] = "kill",
    [TRM_MESSAGE_STOP] = "stop",   [TRM_MESSAGE_CHECK] = "check", [TRM_MESSAGE_QUIT] = "quit",
};

static const char *const launcher_names[TRM_LAUNCHERS] = {
    [TRM_LAUNCHER_NONE] = "none",
    [TRM_LAUNCHER_RUNNING] = "running",
    [TRM_LAUNCHER_STOPPED] = "stopped",
    [TRM_LAUNCHER_GONE] = "gone",
};

const char *trm_message_type_name(enum trm_message_type type)
{
    return (unsigned)type < TRM_MESSAGE_TYPES ? type_names[type] : "unknown";
}

const char *trm_launcher_name(enum trm_launcher launcher)
{
    return (unsigned)launcher < TRM_LAUNCHERS ? launcher_names[launcher] : "unknown";
}

static json_t *encode_hello(const struct trm_message_hello *hello)
{
    const size_t most = TRM_MESSAGE_NAME_BYTES - 1;
    return json_pack("{s:i,s:I,s:I,s:I,s:b,s:I,s:I,s:I,s:I,s:I,s:o,s:o,s:o,s:o}", "protocol",
                     hello->protocol, "number", (json_int_t)hello->number, "attempt",
                     (json_int_t)hello->attempt, "dead", (json_int_t)hello->dead, "orphans",
                     (int)hello->orphans, "pid", (json_int_t)hello->pid, "cores",
                     (json_int_t)hello->cores, "memory_bytes", (json_int_t)hello->memory_bytes,
                     "slots", (json_int_t)hello->slots, "slot_bytes", (json_int_t)hello->slot_bytes,
                     "run_id", trm_report_string(hello->run_id, most), "hostname",
                     trm_report_string(hello->hostname, most), "boot_id",
                     trm_report_string(hello->boot_id, most), "version",
                     trm_report_string(hello->version, most));
}

static json_t *encode_beat(const struct trm_message_beat *beat)
{
    json_t *ranks = json_array();
    for (int i = 0; i < beat->rank_count; i++)
        if (json_array_append_new(ranks, trm_report_to_json(&beat->ranks[i])) != 0) {
            json_decref(ranks);
            return NULL;
        }
    return json_pack("{s:I,s:I,s:I,s:I,s:I,s:s,s:o}", "number", (json_int_t)beat->number, "attempt",
                     (json_int_t)beat->attempt, "dead", (json_int_t)beat->dead, "slots",
                     (json_int_t)beat->slots, "slot_bytes", (json_int_t)beat->slot_bytes,
                     "launcher", trm_launcher_name(beat->launcher), "ranks", ranks);
}

static json_t *encode_check(const struct trm_message_check *check)
{
    json_t *arguments = json_array();
    for (int i = 0; i < check->argument_count; i++)
        json_array_append_new(arguments, json_string(check->arguments[i]));
    json_t *object =
        json_pack("{s:I,s:I,s:I,s:o,s:s}", "id", (json_int_t)check->id, "timeout_ms",
                  (json_int_t)check->timeout_ms, "memory_bytes", (json_int_t)check->memory_bytes,
                  "arguments", arguments, "command", check->command ? check->command : "");
    /* A string that is no UTF-8 can't travel, and must not be left out silently. */
    if (object && json_array_size(arguments) != (size_t)check->argument_count) {
        json_decref(object);
        return NULL;
    }
    return object;
}

static json_t *encode_body(const struct trm_message *message)
{
    switch (message->type) {
    case TRM_MESSAGE_HELLO:
        return encode_hello(&message->hello);
    case TRM_MESSAGE_BEAT:
        return encode_beat(&message->beat);
    case TRM_MESSAGE_BEGUN:
        return json_pack("{s:I,s:b,s:o}", "attempt", (json_int_t)message->begun.attempt, "ok",
                         (int)message->begun.ok, "reason",
                         trm_report_string(message->begun.reason, TRM_MESSAGE_TEXT_BYTES - 1));
    case TRM_MESSAGE_GONE:
        return json_pack("{s:I,s:i,s:I,s:I,s:i}", "attempt", (json_int_t)message->gone.attempt,
                         "rank", message->gone.rank, "pid", (json_int_t)message->gone.pid, "step",
                         (json_int_t)message->gone.step, "phase", (int)message->gone.phase);
    case TRM_MESSAGE_HEALTH:
        return json_pack(
            "{s:I,s:b,s:I,s:o,s:o}", "id", (json_int_t)message->health.id, "ok",
            (int)message->health.ok, "took_ms", (json_int_t)message->health.took_ms, "reason",
            trm_report_string(message->health.reason, TRM_MESSAGE_TEXT_BYTES - 1), "report",
            trm_report_string(message->health.report, TRM_MESSAGE_REPORT_BYTES - 1));
    case TRM_MESSAGE_NOTE:
        return json_pack("{s:o}", "text",
                         trm_report_string(message->note.text, TRM_MESSAGE_TEXT_BYTES - 1));
    case TRM_MESSAGE_ASKED:
    case TRM_MESSAGE_ACK:
        return json_pack("{s:I}", "number", (json_int_t)message->number);
    case TRM_MESSAGE_DEAD:
    case TRM_MESSAGE_STOP:
        return json_pack("{s:I}", "attempt", (json_int_t)message->attempt);
    case TRM_MESSAGE_BEGIN:
        return json_pack("{s:I,s:i,s:o}", "attempt", (json_int_t)message->begin.attempt, "capacity",
                         message->begin.capacity, "domain",
                         trm_report_string(message->begin.domain, TRM_MESSAGE_NAME_BYTES - 1));
    case TRM_MESSAGE_KILL:
        return json_pack("{s:I,s:o}", "attempt", (json_int_t)message->kill.attempt, "reason",
                         trm_report_string(message->kill.reason, TRM_MESSAGE_TEXT_BYTES - 1));
    case TRM_MESSAGE_CHECK:
        return encode_check(&message->check);
    default:
        return json_object();
    }
}

enum trm_status trm_message_encode(const struct trm_message *message, char **text, size_t *bytes,
                                   struct trm_error *err)
{
    const char *name = trm_message_type_name(message->type);
    json_t *object = encode_body(message);
    char *dumped = NULL;
    if (object && json_object_set_new(object, "type", json_string(name)) == 0)
        dumped = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    if (!dumped)
        return trm_error_set(err, TRM_ERR_MEMORY,
                             "the message \"%s\" could not be written: out of memory, or a string "
                             "that is not UTF-8",
                             name);
    *bytes = strlen(dumped);
    *text = dumped;
    return TRM_OK;
}

static void decode_hello(struct trm_fields *fields, struct trm_message_hello *hello)
{
    hello->protocol = (int)trm_fields_int(fields, "protocol", 1, INT32_MAX);
    hello->number = trm_fields_int(fields, "number", 0, MOST);
    hello->attempt = trm_fields_int(fields, "attempt", 0, MOST);
    hello->dead = trm_fields_int(fields, "dead", 0, MOST);
    hello->orphans = trm_fields_bool(fields, "orphans");
    hello->pid = trm_fields_int(fields, "pid", 1, INT32_MAX);
    hello->cores = trm_fields_int(fields, "cores", 1, INT32_MAX);
    hello->memory_bytes = trm_fields_int(fields, "memory_bytes", 0, MOST_BYTES);
    hello->slots = trm_fields_int(fields, "slots", 0, INT32_MAX);
    hello->slot_bytes = trm_fields_int(fields, "slot_bytes", 0, MOST_BYTES);
    trm_fields_text(fields, "run_id", hello->run_id, sizeof hello->run_id);
    trm_fields_text(fields, "hostname", hello->hostname, sizeof hello->hostname);
    trm_fields_text(fields, "boot_id", hello->boot_id, sizeof hello->boot_id);
    trm_fields_text(fields, "version", hello->version, sizeof hello->version);
}

static void decode_ranks(struct trm_fields *fields, struct trm_message_beat *beat)
{
    json_t *ranks = NULL;
    if (fields->status == TRM_OK)
        fields->status =
            trm_json_get_array(fields->object, "ranks", TRM_FLIGHT_MAX_RANKS, &ranks, fields->err);
    if (fields->status != TRM_OK || json_array_size(ranks) == 0)
        return;
    size_t count = json_array_size(ranks);
    beat->ranks = calloc(count, sizeof *beat->ranks);
    if (!beat->ranks) {
        fields->status = trm_error_set(fields->err, TRM_ERR_MEMORY, "out of memory for a beat");
        return;
    }
    for (size_t i = 0; i < count && fields->status == TRM_OK; i++) {
        fields->status =
            trm_report_from_json(json_array_get(ranks, i), &beat->ranks[i], fields->err);
        if (fields->status != TRM_OK)
            trm_error_prefix(fields->err, "entry %zu of \"ranks\"", i);
    }
    beat->rank_count = (int)count;
}

static void decode_beat(struct trm_fields *fields, struct trm_message_beat *beat)
{
    char launcher[16] = "";
    beat->number = trm_fields_int(fields, "number", 0, MOST);
    beat->attempt = trm_fields_int(fields, "attempt", 0, MOST);
    beat->dead = trm_fields_int(fields, "dead", 0, MOST);
    beat->slots = trm_fields_int(fields, "slots", 0, INT32_MAX);
    beat->slot_bytes = trm_fields_int(fields, "slot_bytes", 0, MOST_BYTES);
    trm_fields_text(fields, "launcher", launcher, sizeof launcher);
    while (beat->launcher < TRM_LAUNCHERS && strcmp(launcher, launcher_names[beat->launcher]) != 0)
        beat->launcher++;
    if (fields->status == TRM_OK && beat->launcher == TRM_LAUNCHERS)
        fields->status = trm_error_set(fields->err, TRM_ERR_CORRUPT,
                                       "\"launcher\" is \"%s\", which is no state", launcher);
    decode_ranks(fields, beat);
}

/* The string that `value` is, copied; fails in words of `key`. */
static char *copy_string(struct trm_fields *fields, const json_t *value, const char *key)
{
    if (fields->status != TRM_OK)
        return NULL;
    if (!json_is_string(value) || json_string_length(value) >= TRM_MESSAGE_ARGUMENT_BYTES) {
        fields->status =
            trm_error_set(fields->err, TRM_ERR_CORRUPT, "\"%s\" must be text of up to %d bytes",
                          key, TRM_MESSAGE_ARGUMENT_BYTES - 1);
        return NULL;
    }
    char *copy = strdup(json_string_value(value));
    if (!copy)
        fields->status = trm_error_set(fields->err, TRM_ERR_MEMORY, "out of memory for a message");
    return copy;
}

static void decode_check(struct trm_fields *fields, struct trm_message_check *check)
{
    json_t *arguments = NULL;
    check->id = trm_fields_int(fields, "id", 0, MOST);
    check->timeout_ms = trm_fields_int(fields, "timeout_ms", 1, INT32_MAX);
    check->memory_bytes = trm_fields_int(fields, "memory_bytes", 0, MOST_BYTES);
    if (fields->status == TRM_OK)
        fields->status = trm_json_get_array(fields->object, "arguments", TRM_MESSAGE_MAX_ARGUMENTS,
                                            &arguments, fields->err);
    check->command = copy_string(fields, json_object_get(fields->object, "command"), "command");
    if (fields->status != TRM_OK)
        return;
    check->arguments = calloc(json_array_size(arguments) + 1, sizeof *check->arguments);
    if (!check->arguments) {
        fields->status = trm_error_set(fields->err, TRM_ERR_MEMORY, "out of memory for a message");
        return;
    }
    for (size_t i = 0; i < json_array_size(arguments) && fields->status == TRM_OK; i++) {
        check->arguments[i] = copy_string(fields, json_array_get(arguments, i), "arguments");
        check->argument_count = (int)i + 1;
    }
}

static void decode_health(struct trm_fields *fields, struct trm_message_health *health)
{
    health->id = trm_fields_int(fields, "id", 0, MOST);
    health->ok = trm_fields_bool(fields, "ok");
    health->took_ms = trm_fields_int(fields, "took_ms", 0, MOST);
    trm_fields_text(fields, "reason", health->reason, sizeof health->reason);
    trm_fields_text(fields, "report", health->report, sizeof health->report);
}

static void decode_body(struct trm_fields *fields, struct trm_message *message)
{
    switch (message->type) {
    case TRM_MESSAGE_HELLO:
        decode_hello(fields, &message->hello);
        break;
    case TRM_MESSAGE_BEAT:
        decode_beat(fields, &message->beat);
        break;
    case TRM_MESSAGE_BEGUN:
        message->begun.attempt = trm_fields_int(fields, "attempt", 1, MOST);
        message->begun.ok = trm_fields_bool(fields, "ok");
        trm_fields_text(fields, "reason", message->begun.reason, sizeof message->begun.reason);
        break;
    case TRM_MESSAGE_GONE:
        message->gone.attempt = trm_fields_int(fields, "attempt", 1, MOST);
        message->gone.rank = (int)trm_fields_int(fields, "rank", 0, INT32_MAX);
        message->gone.pid = trm_fields_int(fields, "pid", 0, INT32_MAX);
        message->gone.step = trm_fields_int(fields, "step", -1, MOST);
        message->gone.phase =
            (enum trm_phase)trm_fields_int(fields, "phase", 0, TRM_PHASE_COUNT - 1);
        break;
    case TRM_MESSAGE_HEALTH:
        decode_health(fields, &message->health);
        break;
    case TRM_MESSAGE_NOTE:
        trm_fields_text(fields, "text", message->note.text, sizeof message->note.text);
        break;
    case TRM_MESSAGE_ASKED:
    case TRM_MESSAGE_ACK:
        message->number = trm_fields_int(fields, "number", 0, MOST);
        break;
    case TRM_MESSAGE_DEAD:
    case TRM_MESSAGE_STOP:
        message->attempt = trm_fields_int(fields, "attempt", 0, MOST);
        break;
    case TRM_MESSAGE_BEGIN:
        message->begin.attempt = trm_fields_int(fields, "attempt", 1, MOST);
        message->begin.capacity = (int)trm_fields_int(fields, "capacity", 1, TRM_FLIGHT_MAX_RANKS);
        trm_fields_text(fields, "domain", message->begin.domain, sizeof message->begin.domain);
        break;
    case TRM_MESSAGE_KILL:
        message->kill.attempt = trm_fields_int(fields, "attempt", 0, MOST);
        trm_fields_text(fields, "reason", message->kill.reason, sizeof message->kill.reason);
        break;
    case TRM_MESSAGE_CHECK:
        decode_check(fields, &message->check);
        break;
    default:
        break;
    }
}

enum trm_status trm_message_decode(bool from_agent, const char *text, size_t bytes,
                                   struct trm_message *message, struct trm_error *err)
{
    struct trm_message decoded = {.type = from_agent ? TRM_MESSAGE_HELLO : TRM_MESSAGE_ACK};
    const enum trm_message_type end = from_agent ? TRM_MESSAGE_ACK : TRM_MESSAGE_TYPES;
    json_t *object = NULL;
    char name[16] = "";
    enum trm_status status = trm_json_parse(text, bytes, "message", &object, err);
    if (status != TRM_OK)
        return status;
    struct trm_fields fields = {.object = object, .err = err};
    trm_fields_text(&fields, "type", name, sizeof name);
    while (decoded.type < end && strcmp(name, type_names[decoded.type]) != 0)
        decoded.type++;
    if (fields.status == TRM_OK && decoded.type == end)
        fields.status = trm_error_set(err, TRM_ERR_CORRUPT, "%s sends no message \"%s\"",
                                      from_agent ? "an agent" : "a supervisor", name);
    if (fields.status == TRM_OK) {
        decode_body(&fields, &decoded);
        if (fields.status != TRM_OK) {
            trm_error_prefix(err, "the message \"%s\"", name);
            trm_message_clear(&decoded);
        }
    }
    json_decref(object);
    if (fields.status == TRM_OK)
        *message = decoded;
    return fields.status;
}

void trm_message_clear(struct trm_message *message)
{
    if (message->type == TRM_MESSAGE_BEAT)
        free(message->beat.ranks);
    if (message->type == TRM_MESSAGE_CHECK) {
        for (int i = 0; i < message->check.argument_count; i++)
            free(message->check.arguments[i]);
        free(message->check.arguments);
        free(message->check.command);
    }
    *message = (struct trm_message){.type = TRM_MESSAGE_BYE};
}
