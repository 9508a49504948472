#!/bin/bash
# Everything that only a GPU can show, on a machine that has one:
#   tests/gpu/run.sh
# Builds the cuda preset, runs every operation forward and backward against the reference at odd
# sizes (float32 and bfloat16, poisoned outputs, other addresses, twice for the same bits), twenty
# steps of a small GPT against the CPU's losses, trireme-train itself (trainer.sh), and the small
# cases under compute-sanitizer where that is installed. Prints a table and, last,
# "N passed, N failed". Exits 1 when one failed, 77 when there is no GPU, 69 without nvcc.
set -euo pipefail
cd "$(dirname "$0")/../.."

command -v nvcc >/dev/null || { echo "there is no nvcc on the PATH; install the CUDA Toolkit"; exit 69; }
build=build/cuda
log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "== building (cuda)"
cmake --preset cuda >"$log" 2>&1 && cmake --build --preset cuda --target gpu_programs trireme-train trireme >>"$log" 2>&1 ||
    { cat "$log"; echo "the build of preset cuda failed"; exit 1; }

code=0
"$build/gpu/gpu_probe" || code=$?
[ "$code" = 0 ] || { echo "nothing was tested: no GPU"; exit "$code"; }

passed=0 failed=0
# row NAME RESULT: one line of the table.
row() {
    printf '%-56s %s\n' "$1" "$2"
    if [ "$2" = passed ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
}

# cases PROGRAM: each test function of a program is a row; one that ends early is one, too.
cases() {
    local name topic=${1##*/test_gpu_} code=0
    "$1" >"$log" 2>&1 || code=$?
    while read -r name; do row "$topic: $name" passed; done < <(sed -n 's/^\[ *OK \] //p' "$log")
    while read -r name; do row "$topic: $name" FAILED; done < <(sed -n 's/^\[ *FAILED *\] \([a-z_0-9]*\)$/\1/p' "$log" | sort -u)
    if [ "$code" != 0 ]; then
        grep -A2 'ERROR' "$log" | head -n 20 || true
        grep -q '^\[==========\].*run\.' "$log" || row "$topic: ended with code $code" FAILED
    fi
}

echo "== operations against the reference, and a small training run"
for program in "$build"/gpu/test_gpu_*; do
    cases "$program"
done

echo "== trireme-train"
code=0
TRIREME_BIN=$PWD/$build/bin TRIREME_SOURCE=$PWD OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 \
    tests/gpu/trainer.sh >"$log" 2>&1 || code=$?
while read -r name; do row "trainer: $name" passed; done < <(sed -n 's/^ok [0-9]* - //p' "$log")
if [ "$code" != 0 ]; then
    tail -n 20 "$log"
    row "trainer: ended with code $code" FAILED
fi

echo "== compute-sanitizer"
if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck; do
        for topic in elementwise norm embedding optimizer digest cross_entropy; do
            if compute-sanitizer --tool "$tool" --error-exitcode 9 "$build/gpu/test_gpu_$topic" >"$log" 2>&1
            then row "$tool: $topic" passed
            else tail -n 20 "$log"; row "$tool: $topic" FAILED
            fi
        done
    done
else
    echo "compute-sanitizer is not on the PATH: not run"
fi

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
