#!/usr/bin/env python3
"""A program links none of the libraries it must do without: program_libraries.py PROGRAM"""

import os
import re
import shutil
import subprocess
import sys

# The command of a login node runs where there is neither MPI nor a GPU driver.
FORBIDDEN = {
    "trireme": [
        ("MPI", r"lib(mpi|mpich|open-rte|open-pal|pmix|ucp|ucs)\b.*"),
        ("CUDA", r"lib(cuda|cudart|cublas|cublasLt|cudnn|nvidia-ml|nvrtc)\b.*"),
        ("NCCL", r"libnccl\b.*"),
    ],
    # Half a gigabyte that every rank and health check would relocate (ops/cuda/cublas_lt.c).
    "trireme-train": [
        ("cuBLAS", r"lib(cublas|cublasLt)\b.*"),
    ],
}

if len(sys.argv) != 2:
    sys.exit("usage: program_libraries.py PROGRAM")
program = sys.argv[1]
name = os.path.basename(program)
if name not in FORBIDDEN:
    sys.exit(f"program_libraries: no rule for {name}; add it to tests/lint/program_libraries.py")
if not os.path.exists(program):
    sys.exit(f"program_libraries: {program} is not built; build it first")
for tool, package in (("readelf", "binutils"), ("ldd", "libc-bin")):
    if not shutil.which(tool):
        sys.exit(f"program_libraries: {tool} is not installed, so nothing was checked; "
                 f"install {package}")


def output(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


direct = re.findall(r"\(NEEDED\).*\[(.*?)\]", output("readelf", "-d", program))
if not direct:
    sys.exit(f"program_libraries: readelf shows no libraries at all for {program}")
# What those libraries pull in counts as much: an HDF5 built for MPI would bring MPI back.
indirect = re.findall(r"^\s*(\S+)(?: =>| \()", output("ldd", program), re.MULTILINE)

faults = 0
for library, pattern in FORBIDDEN[name]:
    for found in sorted(set(direct) | {os.path.basename(path) for path in indirect}):
        if re.fullmatch(pattern, found):
            how = "links" if found in direct else "pulls in"
            print(f"{name}: {how} {found}, but must run where there is no {library}; take what "
                  "needs it out of the libraries that this program links")
            faults += 1
if faults:
    sys.exit(1)
print(f"program_libraries: {name} links {len(direct)} libraries, none of them forbidden")
