/* Opens a token file as training does and reads from both ends of it. */
#ifndef TRM_TESTS_FUZZ_TOKENS_H
#define TRM_TESTS_FUZZ_TOKENS_H

void try_tokens(const char *path, int raw_token_bytes);

#endif
