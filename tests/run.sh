#!/bin/bash
# Installs what is missing, builds, and runs every test:
#   tests/run.sh [CTEST ARGUMENTS]     for instance: tests/run.sh -L unit
#   tests/run.sh --full                every fault against every phase, and ten minutes of random faults
# Sanitizer builds of the unit and small MPI tests follow, unless arguments narrow the run.
set -euo pipefail
cd "$(dirname "$0")/.."

. cmake/packages.sh
install_packages "${build_packages[@]}" "${test_packages[@]}" "${cluster_packages[@]}"

if [ "${1:-}" = --full ]; then
    export TRIREME_FULL=1
    shift
fi
jobs=$(nproc)
tests=$((jobs + 1)) # many wait more than they compute
build() { # build PRESET
    # The quickstart leaves a build folder without tests.
    cmake --preset "$1" -DTRIREME_TESTS=ON >"build-$1.log" 2>&1 && cmake --build --preset "$1" -j "$jobs" >>"build-$1.log" 2>&1 ||
        { cat "build-$1.log"; echo "the build of preset $1 failed"; exit 1; }
    sed -n 's/^-- Building for /for /p' "build-$1.log" # GPUs, or why not
    rm -f "build-$1.log"
}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
# run PRESET [CTEST ARGUMENTS]: in CI a test that was skipped is a failure.
run() {
    local preset=$1
    shift
    ctest --test-dir "build/$preset" --output-on-failure --no-tests=error -j "$tests" "$@" | tee "$log"
    if [ "${CI:-}" = true ] && grep '\*\*\*Skipped' "$log"; then
        echo "a test was skipped, and in CI none may be"
        exit 1
    fi
}

echo "== building (release)"
build release
echo "== testing (release)"
run release "$@"
[ $# -eq 0 ] || exit 0

echo "== building (asan-ubsan)"
build asan-ubsan
echo "== testing (asan-ubsan): unit and small MPI tests"
run asan-ubsan -L 'unit|mpi'
echo "== building (tsan)"
build tsan
echo "== testing (tsan): what has threads"
run tsan -L threads
