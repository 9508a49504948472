#!/bin/bash
# The three token formats hold the same tokens: the same losses, bit for bit.
. "$(dirname "$0")/lib.sh"
make_text

must_train llmc 1
for format in megatron raw; do
    "$TRIREME_BIN/trireme" data prepare "$scratch/text" -o "$scratch/$format.bin" --format "$format" >/dev/null
    TOKENS=$format.bin must_train "$format" 1
    same llmc "$format" "llm.c and $format token files"
done
finish
