/* Words for a shell. */
#ifndef TRM_LAUNCH_QUOTE_H
#define TRM_LAUNCH_QUOTE_H

#include <stdio.h>

/* Writes the word so that a shell reads exactly it back; in quotes where it needs them. */
void trm_quote_word(FILE *file, const char *word);

#endif
