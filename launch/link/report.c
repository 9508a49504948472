#include "launch/link/report.h"

#include <math.h>
#include <string.h>

#define LARGEST_SIGNAL 64
#define LARGEST_PID    INT64_C(4194304) /* PID_MAX_LIMIT of Linux */

static int64_t clamp(int64_t value, int64_t minimum, int64_t maximum)
{
    return value < minimum ? minimum : value > maximum ? maximum : value;
}

static int64_t age_ms(int64_t since_ns, int64_t now_ns)
{
    return since_ns <= 0 || since_ns > now_ns ? 0 : (now_ns - since_ns) / 1000000;
}

/* Record fields are atomics of two widths. */
#define LOAD(field)  (int64_t) atomic_load_explicit(&(field), memory_order_relaxed)
#define COUNT(field) clamp(LOAD(field), 0, TRM_REPORT_MAX_COUNT)

static void read_lane(const struct trm_flight_lane *lane, int64_t now_ns, struct trm_rank_lane *out)
{
    out->entered = COUNT(lane->entered);
    out->completed = COUNT(lane->completed);
    out->waiting = COUNT(lane->waiting);
    out->age_ms = age_ms(LOAD(lane->since_ns), now_ns);
    out->waited_ms = clamp(LOAD(lane->waited_ns) / 1000000, 0, TRM_REPORT_MAX_COUNT);
    out->operation =
        (enum trm_flight_operation)clamp(LOAD(lane->operation), 0, TRM_FLIGHT_OPERATION_COUNT - 1);
}

void trm_report_read(const struct trm_flight_record *record, int64_t now_ns,
                     struct trm_rank_report *out)
{
    struct trm_rank_report report = {.process = TRM_REPORT_NO_PROCESS};
    /* The exit's fields were stored before this state was. */
    report.state = (enum trm_flight_state)clamp(
        atomic_load_explicit(&record->state, memory_order_acquire), 0, TRM_FLIGHT_EXITED);
    report.rank = (int)clamp(LOAD(record->rank), 0, INT32_MAX);
    report.phase = (enum trm_phase)clamp(LOAD(record->phase), 0, TRM_PHASE_COUNT - 1);
    report.phase_age_ms = age_ms(LOAD(record->phase_since_ns), now_ns);
    report.step = clamp(LOAD(record->step), -1, TRM_REPORT_MAX_COUNT);
    report.samples = COUNT(record->samples);
    report.step_ns = COUNT(record->step_ns);
    report.compute_ns = COUNT(record->compute_ns);
    int64_t bits = LOAD(record->loss_bits);
    memcpy(&report.loss, &bits, sizeof report.loss);
    report.memory_step = clamp(LOAD(record->memory_step), -1, TRM_REPORT_MAX_COUNT);
    report.disk_step = clamp(LOAD(record->disk_step), -1, TRM_REPORT_MAX_COUNT);
    report.resumed_step = clamp(LOAD(record->resumed_step), -1, TRM_REPORT_MAX_COUNT);
    report.restore_ns = COUNT(record->restore_ns);
    report.resumed_from =
        (enum trm_resumed)clamp(LOAD(record->resumed_from), 0, TRM_RESUMED_COUNT - 1);
    report.blamed_rank = (int)clamp(LOAD(record->blamed_rank), -1, INT32_MAX);
    report.world_size = (int)clamp(LOAD(record->world_size), 0, INT32_MAX);
    report.data_size = (int)clamp(LOAD(record->data_size), 0, INT32_MAX);
    report.tensor_size = (int)clamp(LOAD(record->tensor_size), 0, INT32_MAX);
    for (int i = 0; i < TRM_FLIGHT_GROUPS; i++)
        read_lane(&record->lanes[i], now_ns, &report.lanes[i]);
    if (report.state == TRM_FLIGHT_EXITED) {
        report.exit_status =
            (enum trm_status)clamp(LOAD(record->exit_status), 0, TRM_STATUS_COUNT - 1);
        report.exit_code = (int)clamp(LOAD(record->exit_code), 0, 255);
        memcpy(report.exit_text, record->exit_text, sizeof report.exit_text);
        report.exit_text[sizeof report.exit_text - 1] = '\0';
    }
    *out = report;
}

/* The length of the UTF-8 character at `text`, 0 where there is none (RFC 3629). */
static size_t character_bytes(const unsigned char *text, size_t left)
{
    size_t bytes = text[0] < 0x80   ? 1
                   : text[0] < 0xC2 ? 0
                   : text[0] < 0xE0 ? 2
                   : text[0] < 0xF0 ? 3
                   : text[0] < 0xF5 ? 4
                                    : 0;
    if (bytes == 0 || bytes > left)
        return 0;
    for (size_t i = 1; i < bytes; i++)
        if ((text[i] & 0xC0) != 0x80)
            return 0;
    bool overlong = (text[0] == 0xE0 && text[1] < 0xA0) || (text[0] == 0xF0 && text[1] < 0x90);
    bool beyond = (text[0] == 0xED && text[1] > 0x9F) || (text[0] == 0xF4 && text[1] > 0x8F);
    return overlong || beyond ? 0 : bytes;
}

json_t *trm_report_string(const char *text, size_t limit_bytes)
{
    size_t length = strnlen(text, limit_bytes), used = 0;
    char *clean = malloc(length + 1);
    if (!clean)
        return NULL;
    for (size_t i = 0; i < length;) {
        size_t bytes = character_bytes((const unsigned char *)text + i, length - i);
        bool control = bytes == 1 && ((unsigned char)text[i] < ' ' || text[i] == 0x7F);
        if (bytes == 0 || (control && text[i] != '\n')) {
            bytes = 1;
            clean[used++] = '?';
        } else {
            memcpy(clean + used, text + i, bytes);
            used += bytes;
        }
        i += bytes;
    }
    json_t *value = json_stringn(clean, used);
    free(clean);
    return value;
}

static json_t *lane_to_json(const struct trm_rank_lane *lane)
{
    return json_pack("[I,I,I,I,I,i]", (json_int_t)lane->entered, (json_int_t)lane->completed,
                     (json_int_t)lane->waiting, (json_int_t)lane->age_ms,
                     (json_int_t)lane->waited_ms, (int)lane->operation);
}

json_t *trm_report_to_json(const struct trm_rank_report *report)
{
    const char process[2] = {report->process, '\0'};
    json_t *loss = isfinite(report->loss) ? json_real(report->loss) : json_null();
    json_t *exit =
        report->state == TRM_FLIGHT_EXITED
            ? json_pack("{s:i,s:i,s:o}", "status", (int)report->exit_status, "code",
                        report->exit_code, "text",
                        trm_report_string(report->exit_text, sizeof report->exit_text - 1))
            : json_null();
    return json_pack("{s:i,s:i,s:I,s:i,s:b,s:s,s:i,s:i,s:I,s:I,s:I,s:I,s:I,s:o,s:I,s:I,s:I,s:I,s:i,"
                     "s:i,s:[i,i,i],s:["
                     "o,o,"
                     "o],s:o}",
                     "rank", report->rank, "local", report->local_rank, "pid",
                     (json_int_t)report->pid, "state", (int)report->state, "connected",
                     (int)report->connected, "process", process, "signal", report->signal, "phase",
                     (int)report->phase, "phase_age_ms", (json_int_t)report->phase_age_ms, "step",
                     (json_int_t)report->step, "samples", (json_int_t)report->samples, "step_ns",
                     (json_int_t)report->step_ns, "compute_ns", (json_int_t)report->compute_ns,
                     "loss", loss, "memory_step", (json_int_t)report->memory_step, "disk_step",
                     (json_int_t)report->disk_step, "resumed_step",
                     (json_int_t)report->resumed_step, "restore_ns", (json_int_t)report->restore_ns,
                     "resumed_from", (int)report->resumed_from, "blamed_rank", report->blamed_rank,
                     "sizes", report->world_size, report->data_size, report->tensor_size, "lanes",
                     lane_to_json(&report->lanes[TRM_FLIGHT_WORLD]),
                     lane_to_json(&report->lanes[TRM_FLIGHT_DATA]),
                     lane_to_json(&report->lanes[TRM_FLIGHT_TENSOR]), "exit", exit);
}

int64_t trm_fields_int(struct trm_fields *fields, const char *key, int64_t minimum, int64_t maximum)
{
    int64_t value = 0;
    if (fields->status == TRM_OK)
        fields->status =
            trm_json_get_int(fields->object, key, minimum, maximum, &value, fields->err);
    return value;
}

bool trm_fields_bool(struct trm_fields *fields, const char *key)
{
    if (fields->status != TRM_OK)
        return false;
    const json_t *value = json_object_get(fields->object, key);
    if (!json_is_boolean(value))
        fields->status = trm_error_set(fields->err, TRM_ERR_CORRUPT,
                                       "the key \"%s\" must be true or false", key);
    return json_is_true(value);
}

void trm_fields_text(struct trm_fields *fields, const char *key, char *out, size_t out_bytes)
{
    const char *text = NULL;
    if (fields->status == TRM_OK)
        fields->status = trm_json_get_string(fields->object, key, &text, fields->err);
    if (fields->status != TRM_OK)
        return;
    size_t length = strlen(text);
    if (length >= out_bytes)
        fields->status = trm_error_set(fields->err, TRM_ERR_CORRUPT,
                                       "the key \"%s\" has %zu bytes, more than the %zu allowed",
                                       key, length, out_bytes - 1);
    else
        memcpy(out, text, length + 1);
}

/* An array of exactly `count` numbers, each between 0 and its limit. */
static enum trm_status read_numbers(const json_t *array, const char *what, int count,
                                    const int64_t *limits, int64_t *out, struct trm_error *err)
{
    if (!json_is_array(array) || json_array_size(array) != (size_t)count)
        return trm_error_set(err, TRM_ERR_CORRUPT, "\"%s\" must be a list of %d numbers", what,
                             count);
    for (int i = 0; i < count; i++) {
        const json_t *value = json_array_get(array, (size_t)i);
        int64_t number = json_integer_value(value);
        if (!json_is_integer(value) || number < 0 || number > limits[i])
            return trm_error_set(err, TRM_ERR_CORRUPT,
                                 "number %d of \"%s\" must be between 0 and %lld", i + 1, what,
                                 (long long)limits[i]);
        out[i] = number;
    }
    return TRM_OK;
}

static enum trm_status read_lanes(const json_t *array, struct trm_rank_report *report,
                                  struct trm_error *err)
{
    static const int64_t limits[] = {TRM_REPORT_MAX_COUNT, TRM_REPORT_MAX_COUNT,
                                     TRM_REPORT_MAX_COUNT, TRM_REPORT_MAX_COUNT,
                                     TRM_REPORT_MAX_COUNT, TRM_FLIGHT_OPERATION_COUNT - 1};
    if (!json_is_array(array) || json_array_size(array) != TRM_FLIGHT_GROUPS)
        return trm_error_set(err, TRM_ERR_CORRUPT, "\"lanes\" must be a list of %d lists",
                             TRM_FLIGHT_GROUPS);
    for (int i = 0; i < TRM_FLIGHT_GROUPS; i++) {
        int64_t numbers[6] = {0};
        enum trm_status status =
            read_numbers(json_array_get(array, (size_t)i), "lanes", 6, limits, numbers, err);
        if (status != TRM_OK)
            return status;
        report->lanes[i] = (struct trm_rank_lane){
            .entered = numbers[0],
            .completed = numbers[1],
            .waiting = numbers[2],
            .age_ms = numbers[3],
            .waited_ms = numbers[4],
            .operation = (enum trm_flight_operation)numbers[5],
        };
    }
    return TRM_OK;
}

static enum trm_status read_exit(const json_t *value, struct trm_rank_report *report,
                                 struct trm_error *err)
{
    struct trm_fields fields = {.object = value, .err = err};
    if (report->state != TRM_FLIGHT_EXITED)
        return json_is_null(value)
                   ? TRM_OK
                   : trm_error_set(err, TRM_ERR_CORRUPT, "\"exit\" stands beside a rank that runs");
    report->exit_status =
        (enum trm_status)trm_fields_int(&fields, "status", 0, TRM_STATUS_COUNT - 1);
    report->exit_code = (int)trm_fields_int(&fields, "code", 0, 255);
    trm_fields_text(&fields, "text", report->exit_text, sizeof report->exit_text);
    return fields.status;
}

static enum trm_status read_process_and_loss(const json_t *value, struct trm_rank_report *report,
                                             struct trm_error *err)
{
    const char *process = json_string_value(json_object_get(value, "process"));
    const json_t *loss = json_object_get(value, "loss");
    if (!process || strlen(process) != 1 || process[0] <= ' ')
        return trm_error_set(err, TRM_ERR_CORRUPT, "\"process\" must be one letter");
    if (!json_is_null(loss) && !json_is_number(loss))
        return trm_error_set(err, TRM_ERR_CORRUPT, "\"loss\" must be a number or null");
    report->process = process[0];
    report->loss = json_is_null(loss) ? NAN : json_number_value(loss);
    return TRM_OK;
}

enum trm_status trm_report_from_json(const json_t *value, struct trm_rank_report *out,
                                     struct trm_error *err)
{
    static const int64_t sizes_limits[] = {INT32_MAX, INT32_MAX, INT32_MAX};
    struct trm_rank_report report = {0};
    struct trm_fields fields = {.object = value, .err = err};
    const int64_t most = TRM_REPORT_MAX_COUNT;
    int64_t sizes[3] = {0};
    report.rank = (int)trm_fields_int(&fields, "rank", 0, INT32_MAX);
    report.local_rank = (int)trm_fields_int(&fields, "local", 0, TRM_FLIGHT_MAX_RANKS - 1);
    report.pid = trm_fields_int(&fields, "pid", 0, LARGEST_PID);
    report.state = (enum trm_flight_state)trm_fields_int(&fields, "state", 0, TRM_FLIGHT_EXITED);
    report.connected = trm_fields_bool(&fields, "connected");
    report.signal = (int)trm_fields_int(&fields, "signal", 0, LARGEST_SIGNAL);
    report.phase = (enum trm_phase)trm_fields_int(&fields, "phase", 0, TRM_PHASE_COUNT - 1);
    report.phase_age_ms = trm_fields_int(&fields, "phase_age_ms", 0, most);
    report.step = trm_fields_int(&fields, "step", -1, most);
    report.samples = trm_fields_int(&fields, "samples", 0, most);
    report.step_ns = trm_fields_int(&fields, "step_ns", 0, most);
    report.compute_ns = trm_fields_int(&fields, "compute_ns", 0, most);
    report.memory_step = trm_fields_int(&fields, "memory_step", -1, most);
    report.disk_step = trm_fields_int(&fields, "disk_step", -1, most);
    report.resumed_step = trm_fields_int(&fields, "resumed_step", -1, most);
    report.restore_ns = trm_fields_int(&fields, "restore_ns", 0, most);
    report.resumed_from =
        (enum trm_resumed)trm_fields_int(&fields, "resumed_from", 0, TRM_RESUMED_COUNT - 1);
    report.blamed_rank = (int)trm_fields_int(&fields, "blamed_rank", -1, INT32_MAX);
    enum trm_status status = fields.status;
    if (status == TRM_OK)
        status = read_process_and_loss(value, &report, err);
    if (status == TRM_OK)
        status =
            read_numbers(json_object_get(value, "sizes"), "sizes", 3, sizes_limits, sizes, err);
    if (status == TRM_OK)
        status = read_lanes(json_object_get(value, "lanes"), &report, err);
    if (status == TRM_OK)
        status = read_exit(json_object_get(value, "exit"), &report, err);
    if (status != TRM_OK)
        return status;
    report.world_size = (int)sizes[0];
    report.data_size = (int)sizes[1];
    report.tensor_size = (int)sizes[2];
    *out = report;
    return TRM_OK;
}
