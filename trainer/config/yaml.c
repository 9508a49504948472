/*
 * YAML into values, from libyaml's events: `section: {key: value}`, nothing deeper, and nothing of
 * YAML that a reader could misjudge (anchors, tags, null, several documents). The first thing wrong
 * ends the reading, so hostile nesting costs nothing.
 */
#include <string.h>
#include <yaml.h>

#include "base/assert.h"
#include "trainer/config/keys.h"
#include "trainer/config/text.h"

struct reader {
    const struct trm_key_table *table;
    void *values;
    const char *text, *name;
    size_t bytes;
    yaml_parser_t parser;
    yaml_event_t event;                  /* the current one; zeroed when there is none */
    size_t key_line[TRM_KEYS_LIMIT];     /* where a key was set, from 1; 0: not yet */
    size_t section_line[TRM_KEYS_LIMIT]; /* the same, at the section's first key */
    struct trm_error *err;
};

/* Puts the place in front of what was set in `err`. */
static enum trm_status at(struct reader *reader, yaml_mark_t mark)
{
    trm_error_prefix(reader->err, "%s:%zu:%zu", reader->name, mark.line + 1, mark.column + 1);
    return TRM_ERR_CONFIG;
}

static enum trm_status here(struct reader *reader, const char *words)
{
    trm_error_set(reader->err, TRM_ERR_CONFIG, "%s", words);
    return at(reader, reader->event.start_mark);
}

/* The byte that the mark's character begins with, 0 at the end. Marks count characters. */
static char character(const struct reader *reader, yaml_mark_t mark)
{
    for (size_t byte = 0, index = 0; byte < reader->bytes; byte++) {
        if ((reader->text[byte] & 0xc0) == 0x80)
            continue;
        if (index++ == mark.index)
            return reader->text[byte];
    }
    return '\0';
}

static enum trm_status syntax_error(struct reader *reader)
{
    const yaml_parser_t *parser = &reader->parser;
    const char *problem = parser->problem ? parser->problem : "it cannot be read as YAML";
    char began[64] = "";
    if (parser->error == YAML_MEMORY_ERROR)
        return trm_error_set(reader->err, TRM_ERR_MEMORY, "out of memory reading %s", reader->name);
    if (character(reader, parser->problem_mark) == '\t') {
        trm_error_set(reader->err, TRM_ERR_CONFIG, "a tab stands here; indent with spaces");
        return at(reader, parser->problem_mark);
    }
    if (parser->context && parser->context_mark.line != parser->problem_mark.line)
        snprintf(began, sizeof(began), " begun on line %zu", parser->context_mark.line + 1);
    trm_error_set(reader->err, TRM_ERR_CONFIG,
                  "%s%s%s%s; check quotes, brackets, colons and indentation", problem,
                  parser->context ? " " : "", parser->context ? parser->context : "", began);
    return at(reader, parser->problem_mark);
}

/* Goes to the next event, and refuses what no configuration needs. */
static enum trm_status next(struct reader *reader)
{
    yaml_event_delete(&reader->event);
    if (!yaml_parser_parse(&reader->parser, &reader->event)) {
        memset(&reader->event, 0, sizeof(reader->event));
        return syntax_error(reader);
    }
    const yaml_event_t *event = &reader->event;
    const yaml_char_t *anchor = NULL, *tag = NULL;
    if (event->type == YAML_ALIAS_EVENT)
        return here(reader, "an alias (*name) is not supported; write the value out");
    if (event->type == YAML_SCALAR_EVENT) {
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
    } else if (event->type == YAML_SEQUENCE_START_EVENT) {
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
    } else if (event->type == YAML_MAPPING_START_EVENT) {
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
    }
    if (anchor)
        return here(reader, "an anchor (&name) is not supported; remove it");
    if (tag)
        return here(reader, "a tag (!name) is not supported; remove it");
    return TRM_OK;
}

static const char *scalar(const struct reader *reader)
{
    return (const char *)reader->event.data.scalar.value;
}

static bool is_plain(const struct reader *reader)
{
    return reader->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

/* What YAML 1.1 reads as null. */
static bool is_null(const struct reader *reader)
{
    static const char *const words[] = {"", "~", "null", "Null", "NULL"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (reader->event.type == YAML_SCALAR_EVENT && is_plain(reader) &&
            strcmp(scalar(reader), words[i]) == 0)
            return true;
    return false;
}

/* The current event must be the name of a section or key. */
static enum trm_status expect_name(struct reader *reader)
{
    if (reader->event.type != YAML_SCALAR_EVENT)
        return here(reader, "a list or mapping stands where a name must be; write 'name: value'");
    if (strlen(scalar(reader)) != reader->event.data.scalar.length)
        return here(reader, "a name has a NUL character; remove it");
    return TRM_OK;
}

/* One scalar into a key: its value, or an item of its list. */
static enum trm_status read_scalar(struct reader *reader, const struct trm_key *key)
{
    bool text_wanted = key->type == TRM_KEY_STRING || key->type == TRM_KEY_LIST;
    enum trm_status status = TRM_OK;
    if (is_null(reader))
        trm_error_set(reader->err, status = TRM_ERR_CONFIG,
                      "%s has no value; give one or remove the line", key->name);
    else if (strlen(scalar(reader)) != reader->event.data.scalar.length)
        trm_error_set(reader->err, status = TRM_ERR_CONFIG,
                      "%s: the text has a NUL character; remove it", key->name);
    else if (!text_wanted && key->type != TRM_KEY_ENUM && !is_plain(reader))
        trm_error_set(reader->err, status = TRM_ERR_CONFIG,
                      "%s: a quoted text stands where a %s must be; remove the quotes", key->name,
                      trm_key_type_name(key));
    else
        status = trm_value_set(key, reader->values, key->name, scalar(reader), reader->err);
    return status == TRM_ERR_CONFIG ? at(reader, reader->event.start_mark) : status;
}

static enum trm_status read_list(struct reader *reader, const struct trm_key *key)
{
    enum trm_status status = next(reader);
    while (status == TRM_OK && reader->event.type != YAML_SEQUENCE_END_EVENT) {
        if (reader->event.type != YAML_SCALAR_EVENT) {
            trm_error_set(reader->err, TRM_ERR_CONFIG,
                          "%s: an item is a list or mapping; each item must be a text", key->name);
            return at(reader, reader->event.start_mark);
        }
        status = read_scalar(reader, key);
        if (status == TRM_OK)
            status = next(reader);
    }
    return status;
}

/* The value of a key, of whatever shape it is. */
static enum trm_status read_value(struct reader *reader, const struct trm_key *key)
{
    enum trm_status status = next(reader);
    if (status != TRM_OK)
        return status;
    if (key->type == TRM_KEY_LIST)
        trm_value_clear(key, reader->values);
    if (reader->event.type == YAML_SCALAR_EVENT)
        return read_scalar(reader, key);
    if (reader->event.type == YAML_SEQUENCE_START_EVENT && key->type == TRM_KEY_LIST)
        return read_list(reader, key);
    trm_error_set(reader->err, TRM_ERR_CONFIG, "%s: a %s stands here; give one %s", key->name,
                  reader->event.type == YAML_SEQUENCE_START_EVENT ? "list" : "mapping",
                  key->type == TRM_KEY_LIST ? "text or a list of texts" : trm_key_type_name(key));
    return at(reader, reader->event.start_mark);
}

static enum trm_status unknown_key(struct reader *reader, const char *section)
{
    char shown[TRM_SHOW_BYTES];
    const char *word = scalar(reader);
    const struct trm_key *near = trm_keys_find(reader->table, word);
    if (!near)
        near = trm_keys_nearest(reader->table, section, word);
    trm_text_show(shown, word);
    if (near && strcmp(near->name, word) == 0)
        trm_error_set(reader->err, TRM_ERR_CONFIG,
                      "key '%s' belongs to section '%s', not '%s'; move it there", shown,
                      near->section, section);
    else if (near && strcmp(near->section, section) != 0)
        trm_error_set(reader->err, TRM_ERR_CONFIG,
                      "unknown key '%s' in section '%s'; did you mean '%s' of section '%s'?", shown,
                      section, near->name, near->section);
    else if (near)
        trm_error_set(reader->err, TRM_ERR_CONFIG,
                      "unknown key '%s' in section '%s'; did you mean '%s'?", shown, section,
                      near->name);
    else
        trm_error_set(reader->err, TRM_ERR_CONFIG,
                      "unknown key '%s' in section '%s'; --help lists every key", shown, section);
    return at(reader, reader->event.start_mark);
}

/* `key: value` of a section; the current event is the key. */
static enum trm_status read_key(struct reader *reader, const char *section)
{
    enum trm_status status = expect_name(reader);
    if (status != TRM_OK)
        return status;
    const struct trm_key *key = trm_keys_find(reader->table, scalar(reader));
    if (!key || strcmp(key->section, section) != 0)
        return unknown_key(reader, section);
    size_t *line = &reader->key_line[key - reader->table->keys];
    if (*line) {
        trm_error_set(reader->err, TRM_ERR_CONFIG,
                      "key '%s' is set twice, first on line %zu; keep one", key->name, *line);
        return at(reader, reader->event.start_mark);
    }
    *line = reader->event.start_mark.line + 1;
    return read_value(reader, key);
}

static enum trm_status unknown_section(struct reader *reader)
{
    char shown[TRM_SHOW_BYTES];
    const char *word = scalar(reader);
    const struct trm_key *key = trm_keys_find(reader->table, word);
    struct trm_suggestion suggestion;
    trm_suggestion_begin(&suggestion, word);
    for (int i = 0; i < reader->table->count; i++) {
        const char *section = reader->table->keys[i].section;
        if (i == 0 || strcmp(section, reader->table->keys[i - 1].section) != 0)
            trm_suggestion_consider(&suggestion, section);
    }
    const char *near = trm_suggestion_end(&suggestion);
    trm_text_show(shown, word);
    if (key)
        trm_error_set(reader->err, TRM_ERR_CONFIG,
                      "key '%s' stands outside of a section; put it under '%s:'", shown,
                      key->section);
    else if (near)
        trm_error_set(reader->err, TRM_ERR_CONFIG, "unknown section '%s'; did you mean '%s'?",
                      shown, near);
    else
        trm_error_set(reader->err, TRM_ERR_CONFIG,
                      "unknown section '%s'; --help lists every section", shown);
    return at(reader, reader->event.start_mark);
}

/* `section: mapping`; the current event is the section's name. */
static enum trm_status read_section(struct reader *reader)
{
    enum trm_status status = expect_name(reader);
    if (status != TRM_OK)
        return status;
    const struct trm_key *first = trm_keys_section(reader->table, scalar(reader));
    if (!first)
        return unknown_section(reader);
    size_t *line = &reader->section_line[first - reader->table->keys];
    if (*line) {
        trm_error_set(reader->err, TRM_ERR_CONFIG,
                      "section '%s' stands twice, first on line %zu; join them", first->section,
                      *line);
        return at(reader, reader->event.start_mark);
    }
    *line = reader->event.start_mark.line + 1;
    yaml_mark_t mark = reader->event.start_mark;
    status = next(reader);
    if (status != TRM_OK)
        return status;
    if (reader->event.type != YAML_MAPPING_START_EVENT) {
        trm_error_set(reader->err, TRM_ERR_CONFIG,
                      is_null(reader) ? "section '%s' is empty; give it keys or remove it"
                                      : "section '%s' must hold lines of 'key: value'",
                      first->section);
        return at(reader, mark);
    }
    status = next(reader);
    while (status == TRM_OK && reader->event.type != YAML_MAPPING_END_EVENT) {
        status = read_key(reader, first->section);
        if (status == TRM_OK)
            status = next(reader);
    }
    return status;
}

static enum trm_status no_keys(struct reader *reader)
{
    return trm_error_set(reader->err, TRM_ERR_CONFIG,
                         "%s: there is no key in it; write sections such as 'model:' with lines "
                         "of 'key: value'",
                         reader->name);
}

static enum trm_status read_document(struct reader *reader)
{
    enum trm_status status = next(reader); /* start of the stream */
    if (status == TRM_OK)
        status = next(reader);
    if (status == TRM_OK && reader->event.type == YAML_STREAM_END_EVENT)
        return no_keys(reader);
    if (status == TRM_OK)
        status = next(reader); /* start of the document */
    if (status != TRM_OK)
        return status;
    if (is_null(reader))
        return no_keys(reader);
    if (reader->event.type != YAML_MAPPING_START_EVENT)
        return here(reader, "the file must hold sections such as 'model:' with lines of "
                            "'key: value'");
    status = next(reader);
    while (status == TRM_OK && reader->event.type != YAML_MAPPING_END_EVENT) {
        status = read_section(reader);
        if (status == TRM_OK)
            status = next(reader);
    }
    if (status == TRM_OK)
        status = next(reader); /* end of the document */
    if (status == TRM_OK)
        status = next(reader);
    if (status == TRM_OK && reader->event.type != YAML_STREAM_END_EVENT)
        return here(reader, "a second document begins here; keep one");
    return status;
}

/* Bytes that no text file has, found before libyaml guesses an encoding from them. */
static enum trm_status check_bytes(struct reader *reader)
{
    size_t offset = 0;
    if (trm_text_check(reader->text, reader->bytes, true, &offset))
        return TRM_OK;
    yaml_mark_t mark = {0};
    for (size_t i = 0; i < offset; i++) {
        mark.column += (reader->text[i] & 0xc0) != 0x80;
        if (reader->text[i] == '\n') {
            mark.line++;
            mark.column = 0;
        }
    }
    trm_error_set(reader->err, TRM_ERR_CONFIG,
                  "byte 0x%02x is not printable UTF-8 text; is this a configuration file?",
                  (unsigned char)reader->text[offset]);
    return at(reader, mark);
}

enum trm_status trm_yaml_read(const struct trm_key_table *table, void *values, const char *text,
                              size_t bytes, const char *name, struct trm_error *err)
{
    bool marked = bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0; /* byte-order mark */
    text += marked ? 3 : 0;
    bytes -= marked ? 3 : 0;
    struct reader reader = {
        .table = table, .values = values, .text = text, .bytes = bytes, .name = name, .err = err};
    TRM_ASSERT(table->count <= TRM_KEYS_LIMIT && err != NULL);
    if (bytes == 0)
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "%s: the file is empty; write sections such as 'model:' with lines of "
                             "'key: value'",
                             name);
    enum trm_status status = check_bytes(&reader);
    if (status != TRM_OK)
        return status;
    if (!yaml_parser_initialize(&reader.parser))
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory reading %s", name);
    yaml_parser_set_encoding(&reader.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&reader.parser, (const unsigned char *)text, bytes);
    status = read_document(&reader);
    yaml_event_delete(&reader.event);
    yaml_parser_delete(&reader.parser);
    return status;
}
