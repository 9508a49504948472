#!/bin/bash
# Installs what is missing, builds, and runs every test:
#   tests/run.sh [CTEST ARGUMENTS]     for instance: tests/run.sh -L unit
# Sanitizer builds of the unit and small MPI tests follow, unless arguments narrow the run.
set -euo pipefail
cd "$(dirname "$0")/.."

. cmake/packages.sh
install_packages "${build_packages[@]}" "${test_packages[@]}"

jobs=$(nproc)
build() { # build PRESET
    cmake --preset "$1" >"build-$1.log" 2>&1 && cmake --build --preset "$1" -j "$jobs" >>"build-$1.log" 2>&1 ||
        { cat "build-$1.log"; echo "the build of preset $1 failed"; exit 1; }
    rm -f "build-$1.log"
}

echo "== building (release)"
build release
echo "== testing (release)"
ctest --test-dir build/release --output-on-failure --no-tests=error -j "$jobs" "$@"
[ $# -eq 0 ] || exit 0

echo "== building (asan-ubsan)"
build asan-ubsan
echo "== testing (asan-ubsan): unit and small MPI tests"
ctest --test-dir build/asan-ubsan --output-on-failure --no-tests=error -j "$jobs" -L 'unit|mpi'
echo "== building (tsan)"
build tsan
echo "== testing (tsan): what has threads"
ctest --test-dir build/tsan --output-on-failure --no-tests=error -j "$jobs" -L threads
