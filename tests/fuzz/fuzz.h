/*
 * What each fuzz target defines, under the name that libFuzzer calls: one try of one reader on one
 * input. It returns 0, and ends the process (TRM_ASSERT, a sanitizer) when the reader let something
 * pass that it must not. Its corpus is the folder corpus/<target>; replay.c runs it without clang.
 */
#ifndef TRM_TESTS_FUZZ_FUZZ_H
#define TRM_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
