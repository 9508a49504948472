#!/bin/bash
# From text to a trained model on this machine:
#   examples/quickstart.sh [TEXT ...]
# Installs what is missing, builds, makes tokens, trains on 2 ranks, resumes on 3, samples. Without
# TEXT it trains on the licences and manuals that every Debian has, and this project's documentation.
set -euo pipefail
for text in "$@"; do
    [ -r "$text" ] || { echo "quickstart: can't read \"$text\""; exit 66; }
done
texts=()
for text in "$@"; do texts+=("$(realpath "$text")"); done
cd "$(dirname "$0")/.."
say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

. cmake/packages.sh
install_packages "${build_packages[@]}"

if [ -z "${TRIREME_BIN:-}" ]; then # the programs are given when this runs as a test
    say "building"
    [ -f build/release/CMakeCache.txt ] || cmake --preset release -DTRIREME_TESTS=OFF >/dev/null
    cmake --build build/release -j "$(nproc)" --target trireme trireme-train
    TRIREME_BIN=$PWD/build/release/bin
fi
PATH=$TRIREME_BIN:$PATH
run=${TRIREME_RUN:-runs/quickstart}
rm -rf "$run"
mkdir -p "$run"

say "text to tokens"
if [ ${#texts[@]} -eq 0 ]; then
    mapfile -t texts < <(ls /usr/share/common-licenses/* | sort
        ls /usr/share/doc/*/copyright 2>/dev/null | sort | head -n 200
        ls README.md docs/*.md | sort)
fi
trireme data prepare "${texts[@]}" -o "$run/text.bin"

launch() { # launch RANKS ARGUMENTS...
    local ranks=$1
    shift
    OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 mpirun -q --oversubscribe --bind-to none \
        --mca mpi_yield_when_idle 1 --mca btl_vader_single_copy_mechanism none -np "$ranks" \
        trireme-train examples/configs/quickstart.yaml --train-data-path "$run/text.bin" --run-dir "$run" "$@"
}

iters=$(sed -n 's/^ *train_iters: *\([0-9]*\).*/\1/p' examples/configs/quickstart.yaml)
say "training on 2 ranks, up to step $((iters / 2))"
launch 2 --exit-interval $((iters / 2)) || [ $? = 75 ]
say "resuming on 3 ranks, up to step $iters"
launch 3

say "what came of it"
trireme ckpt list "$run/checkpoints"
losses=$(sed -n 's/.*"step": \([0-9]*\), "loss": \([^,]*\),.*/\1 \2/p' "$run/metrics.jsonl")
echo "$losses" | awk 'NR == 1 { printf "loss before: %.3f (step %d)\n", $2, $1 } END { printf "loss after:  %.3f (step %d)\n", $2, $1 }'
echo "checkpoint:  $(ls -d "$run"/checkpoints/step-* | tail -n 1)"
echo "sample:"
trireme sample "$run/checkpoints" --prompt "This program is " --tokens 240 | sed 's/^/    /'
