#!/usr/bin/env python3
"""Who may include whom, and where each foreign library lives: layering.py ROOT"""

import os
import re

from tree import Report, Tree, blank_comments, is_under, root_argument

# For each folder or file, what it may include; the longest entry that fits a file counts.
# "folder/*" is the headers right in that folder, not those of its subfolders; "**" is everything.
TRAINER_PARTS = ["trainer/*", "trainer/config/*", "trainer/plan/*", "trainer/ops/*",
                 "trainer/ops/cpu/cpu.h", "trainer/ops/cuda/cuda.h", "trainer/model/*",
                 "trainer/data/*", "trainer/optimizer/*"]
FLIGHT = ["collectives/flight.h", "collectives/flight_terms.h", "collectives/flight_view.h",
          "collectives/attach.h"]
MAY_INCLUDE = {
    "base": ["base/*"],
    "collectives": ["base/*", "collectives/*"],
    "collectives/mpi": ["base/*", "collectives/*", "collectives/mpi/*"],
    "collectives/nccl": ["base/*", "collectives/*", "collectives/nccl/*"],
    "checkpoint": ["base/*", "checkpoint/*"],
    "checkpoint/parallel": ["base/*", "collectives/*", "checkpoint/*", "checkpoint/parallel/*"],
    "trainer/bind": ["base/*", "trainer/bind/*"],
    "trainer/config": ["base/*", "trainer/config/*"],
    "trainer/plan": ["base/*", "trainer/config/*", "trainer/plan/*"],
    "trainer/ops": ["base/*", "trainer/ops/*"],
    "trainer/ops/reference": ["base/*", "trainer/ops/*", "trainer/ops/reference/*"],
    "trainer/ops/cpu": ["base/*", "trainer/ops/*", "trainer/ops/cpu/*"],
    "trainer/ops/cuda": ["base/*", "trainer/ops/*", "trainer/ops/cuda/*"],
    "trainer/data": ["base/*", "trainer/data/*"],
    "trainer/model": ["base/*", "collectives/*", "trainer/config/*", "trainer/plan/*",
                      "trainer/ops/*", "trainer/model/*"],
    "trainer/optimizer": ["base/*", "collectives/*", "trainer/config/*", "trainer/plan/*",
                          "trainer/ops/*", "trainer/optimizer/*"],
    "trainer": ["base/*", "collectives/*", "checkpoint/*", "checkpoint/parallel/*",
                *TRAINER_PARTS],
    "trainer/groups.c": ["base/*", "collectives/*", "collectives/nccl/nccl.h", *TRAINER_PARTS],
    "trainer/self_test.c": ["base/*", *TRAINER_PARTS, "trainer/ops/reference/reference.h"],
    "trainer/place.c": ["base/*", "collectives/*", "trainer/bind/bind.h", *TRAINER_PARTS],
    "trainer/main.c": ["base/*", "collectives/*", "collectives/mpi/mpi.h", *TRAINER_PARTS],
    "launch": ["base/*", "launch/*"],
    "launch/link": ["base/*", *FLIGHT, "launch/*", "launch/link/*"],
    "launch/agent": ["base/*", *FLIGHT, "checkpoint/slot_head.h", "launch/*", "launch/link/*",
                     "launch/agent/*"],
    "launch/job": ["base/*", "launch/*", "launch/job/*"],
    "launch/supervisor": ["base/*", *FLIGHT, "collectives/verdict.h", "collectives/stall.h",
                          "collectives/straggler.h", "trainer/config/*", "launch/*",
                          "launch/link/*", "launch/job/*", "launch/supervisor/*",
                          "launch/agent/options.h"],
    "launch/slurm": ["base/*", "trainer/config/*", "launch/*", "launch/link/report.h",
                     "launch/slurm/*"],
    "tools": ["base/*", "collectives/*", "checkpoint/*", "checkpoint/parallel/*", *TRAINER_PARTS,
              "launch/*", "launch/agent/*", "launch/supervisor/*", "launch/slurm/*", "tools/*", "tools/formats/*"],
    "tests": ["**"],
    "bench": ["**"],
}

# Each foreign library's headers, and the only places that may include them.
FOREIGN = [
    ("MPI", r"mpi\.h", ["collectives/mpi", "tests/fake"]),
    ("NCCL", r"nccl\.h", ["collectives/nccl", "tests/fake"]),
    ("CUDA", r"(cuda|cublas|cudnn|nvml|nvtx3/).*\.h", ["trainer/ops/cuda", "collectives/nccl",
                                                "tests/fake", "tests/unit/ops/trial_cuda.c", "tests/unit/ops/test_cublas_lt.c",
                                                "tests/gpu", "bench"]),
    ("HDF5", r"hdf5.*\.h", ["checkpoint/h5.h", "tests/unit/checkpoint", "bench"]),
    ("oneDNN", r"(oneapi/dnnl/.*|dnnl.*)", ["trainer/ops/cpu", "bench"]),
    ("libyaml", r"yaml\.h", ["trainer/config"]),
    ("Jansson", r"jansson\.h", ["base/json.h"]),
    ("xxHash", r"xxhash\.h|xxh3\.h", ["base/hash.c"]),
    ("OpenMP", r"omp\.h", ["collectives/ordered.c", "trainer/ops/cpu", "trainer/main.c",
                           "tests/unit/collectives", "tests/unit/ops", "tests/mpi", "bench"]),
    ("hwloc", r"hwloc\.h|hwloc/.*", ["trainer/bind", "tests/unit/bind"]),
    ("libuv", r"uv\.h", ["launch", "tools", "tests/unit/launch"]),
    ("libsodium", r"sodium.*\.h", ["launch"]),
    ("cmocka", r"cmocka\.h", ["tests"]),
]
OPENMP_PRAGMAS = ["collectives/ordered.c", "trainer/ops/cpu", "trainer/model/init.c", "tests",
                  "bench"]

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)
PRAGMA = re.compile(r"^[ \t]*#[ \t]*pragma[ \t]+omp", re.MULTILINE)


def rule_for(path):
    """The longest entry of the table that is the file or one of the folders around it."""
    while path and path not in MAY_INCLUDE:
        path = os.path.dirname(path)
    return path


def allows(entry, header):
    if entry == "**":
        return True
    if entry.endswith("/*"):
        return os.path.dirname(header) == entry[:-2]
    return header == entry


def check_own(tree, report, path, line, header):
    local = os.path.normpath(os.path.join(os.path.dirname(path), header))
    if header not in tree.files:
        if is_under(path, ["tests"]) and local in tree.files:
            return
        if local in tree.files:
            report.fault(path, line, f'"{header}" is relative to this folder',
                         f'include "{local}", from the root of the tree')
        else:
            report.fault(path, line, f'"{header}" is not in the tree',
                         "use <> for headers of the system, or fix the path")
        return
    rule = rule_for(path)
    if not rule:
        report.fault(path, line, "this file is in no layer of the table",
                     "add its folder to MAY_INCLUDE in tests/lint/layering.py")
    elif not any(allows(entry, header) for entry in MAY_INCLUDE[rule]):
        report.fault(path, line, f'"{header}" is out of reach: {rule} may include '
                     f'{", ".join(MAY_INCLUDE[rule])}',
                     "move the code to the layer it belongs to, or pass in what it needs")


def check_foreign(report, path, line, header):
    for library, pattern, places in FOREIGN:
        if re.fullmatch(pattern, header) and not is_under(path, places):
            report.fault(path, line, f"<{header}> of {library} may be included by "
                         f'{", ".join(places)} alone', "use the interface that wraps it")


def main():
    tree = Tree(root_argument())
    report = Report("layering")
    own = set(tree.files)
    for path in tree.c_files():
        report.checked += 1
        code = blank_comments(tree.text(path) or "", literals=False)
        for match in INCLUDE.finditer(code):
            line = code.count("\n", 0, match.start()) + 1
            header = match.group(1) or match.group(2)
            if match.group(1) and any(re.fullmatch(p, header) for _, p, _ in FOREIGN) \
                    and header not in own:
                check_foreign(report, path, line, header)
            elif match.group(1):
                check_own(tree, report, path, line, header)
            else:
                check_foreign(report, path, line, header)
        for match in PRAGMA.finditer(code):
            if not is_under(path, OPENMP_PRAGMAS):
                report.fault(path, code.count("\n", 0, match.start()) + 1,
                             "OpenMP is used outside of " + ", ".join(OPENMP_PRAGMAS),
                             "let an op or the ordered reduction do the parallel part")
    report.finish()


main()
