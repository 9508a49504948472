/*
 * Words of a configuration: what text is allowed, how a value is shown in a message, which known
 * word an unknown one was meant to be. Pure; no allocation.
 */
#ifndef TRM_TRAINER_CONFIG_TEXT_H
#define TRM_TRAINER_CONFIG_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#define TRM_SHOW_BYTES   256
#define TRM_DOUBLE_BYTES 32

/* True when `text` is UTF-8 of the characters that YAML 1.1 calls printable (so that what is
 * written can be read again). Tabs and line breaks count as allowed only with `breaks`. Else
 * *offset is the place of the first byte that is not. */
bool trm_text_check(const char *text, size_t bytes, bool breaks, size_t *offset);

/* The text for a message: other bytes as \xNN, cut with "..." after some 60 bytes. Returns `out`.
 */
const char *trm_text_show(char out[TRM_SHOW_BYTES], const char *text);

/* The shortest decimal that strtod reads back equal. Returns `out`. */
const char *trm_text_double(char out[TRM_DOUBLE_BYTES], double value);

/* Finds the candidate that `word` was meant to be: one an edit away (a swap of neighbours is one
 * edit), else the only one that contains the word, else the nearest within a third of its length.
 */
struct trm_suggestion {
    const char *word; /* borrowed */
    const char *near; /* the nearest so far, or NULL */
    int distance;
    const char *containing; /* borrowed */
    int containing_count;
};

void trm_suggestion_begin(struct trm_suggestion *suggestion, const char *word);
void trm_suggestion_consider(struct trm_suggestion *suggestion, const char *candidate);

/* The best candidate, or NULL. */
const char *trm_suggestion_end(const struct trm_suggestion *suggestion);

#endif
