#include "trainer/config/text.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHOWN_BYTES 60
#define WORD_BYTES  64

/* One code point; returns its length in bytes, 0 when it is not UTF-8. */
static size_t decode(const unsigned char *text, size_t bytes, uint32_t *point)
{
    static const uint32_t smallest[5] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned char lead = text[0];
    size_t length = lead < 0x80 ? 1 : lead >= 0xf8 ? 0 : lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead >= 0x80 && lead < 0xc0)
        length = 0;
    if (length == 0 || length > bytes)
        return 0;
    uint32_t value = length == 1 ? lead : lead & (0xffu >> (length + 1));
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
        value = value << 6 | (text[i] & 0x3fu);
    }
    *point = value;
    return value >= smallest[length] ? length : 0;
}

/* The YAML 1.1 set, as libyaml's reader has it. */
static bool printable(uint32_t point)
{
    return (point >= 0x20 && point <= 0x7e) || (point >= 0xa0 && point <= 0xd7ff) ||
           (point >= 0xe000 && point <= 0xfffd && point != 0xfeff) ||
           (point >= 0x10000 && point <= 0x10ffff);
}

/* Tab, and what libyaml takes for an end of line. */
static bool is_break(uint32_t point)
{
    return point == '\t' || point == '\n' || point == '\r' || point == 0x85 || point == 0x2028 ||
           point == 0x2029;
}

bool trm_text_check(const char *text, size_t bytes, bool breaks, size_t *offset)
{
    for (size_t at = 0; at < bytes;) {
        uint32_t point = 0;
        size_t length = decode((const unsigned char *)text + at, bytes - at, &point);
        bool allowed = length > 0 && (is_break(point) ? breaks : printable(point));
        if (!allowed) {
            *offset = at;
            return false;
        }
        at += length;
    }
    return true;
}

const char *trm_text_show(char out[TRM_SHOW_BYTES], const char *text)
{
    const unsigned char *bytes = (const unsigned char *)text;
    size_t size = strlen(text), used = 0, at = 0;
    while (at < size && at < SHOWN_BYTES) {
        uint32_t point = 0;
        size_t length = decode(bytes + at, size - at, &point);
        if (length > 0 && printable(point) && !is_break(point)) {
            memcpy(out + used, text + at, length);
            used += length;
            at += length;
        } else {
            used += (size_t)snprintf(out + used, 5, "\\x%02x", bytes[at]);
            at++;
        }
    }
    snprintf(out + used, TRM_SHOW_BYTES - used, "%s", at < size ? "..." : "");
    return out;
}

const char *trm_text_double(char out[TRM_DOUBLE_BYTES], double value)
{
    char text[TRM_DOUBLE_BYTES];
    snprintf(out, TRM_DOUBLE_BYTES, "%.17g", value);
    for (int digits = 1; digits < 17; digits++) {
        /* More digits can be shorter: 1e+02 and 100. */
        snprintf(text, sizeof(text), "%.*g", digits, value);
        if (strtod(text, NULL) == value && strlen(text) < strlen(out))
            memcpy(out, text, sizeof(text));
    }
    return out;
}

/* Optimal string alignment: insertions, deletions, substitutions, swaps of neighbours. */
static int edit_distance(const char *a, const char *b)
{
    size_t rows = strlen(a), columns = strlen(b);
    if (rows >= WORD_BYTES || columns >= WORD_BYTES)
        return WORD_BYTES;
    int cost[WORD_BYTES][WORD_BYTES];
    for (size_t i = 0; i <= rows; i++)
        cost[i][0] = (int)i;
    for (size_t j = 0; j <= columns; j++)
        cost[0][j] = (int)j;
    for (size_t i = 1; i <= rows; i++) {
        for (size_t j = 1; j <= columns; j++) {
            int best = cost[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (cost[i - 1][j] + 1 < best)
                best = cost[i - 1][j] + 1;
            if (cost[i][j - 1] + 1 < best)
                best = cost[i][j - 1] + 1;
            bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (swapped && cost[i - 2][j - 2] + 1 < best)
                best = cost[i - 2][j - 2] + 1;
            cost[i][j] = best;
        }
    }
    return cost[rows][columns];
}

void trm_suggestion_begin(struct trm_suggestion *suggestion, const char *word)
{
    int limit = (int)(strnlen(word, WORD_BYTES) / 3);
    *suggestion = (struct trm_suggestion){.word = word, .distance = (limit < 1 ? 1 : limit) + 1};
}

void trm_suggestion_consider(struct trm_suggestion *suggestion, const char *candidate)
{
    int distance = edit_distance(suggestion->word, candidate);
    if (distance < suggestion->distance) {
        suggestion->distance = distance;
        suggestion->near = candidate;
    }
    if (strlen(suggestion->word) >= 4 && strstr(candidate, suggestion->word)) {
        suggestion->containing = candidate;
        suggestion->containing_count++;
    }
}

const char *trm_suggestion_end(const struct trm_suggestion *suggestion)
{
    bool contained = suggestion->containing_count == 1;
    if (contained && !(suggestion->near && suggestion->distance <= 1))
        return suggestion->containing;
    return suggestion->near;
}
