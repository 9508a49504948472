#!/usr/bin/env python3
"""Nothing lies around: every source is compiled, every header included: sources.py ROOT BUILD"""

import json
import os
import re
import sys

from tree import Report, Tree, blank_comments, is_under, root_argument

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*["<]([^">]+)[">]', re.MULTILINE)

# Headers that stand in for a library's of the same name.
INCLUDE_PATHS = ["tests/fake/gpu/include"]

# Compiled by a builder that a machine may lack: their CMakeLists must list them all the same.
OPTIONAL = ["collectives/nccl", "trainer/ops/cuda", "tests/fake", "tests/mpi/nccl",
            "tests/gpu", "bench/ordered_sum_cuda.c"]


def compiled_sources(tree, build):
    path = os.path.join(build, "compile_commands.json")
    if not os.path.exists(path):
        sys.exit(f"sources: {path} is missing; configure that build folder with cmake first")
    with open(path) as file:
        commands = json.load(file)
    return {os.path.relpath(os.path.join(command["directory"], command["file"]), tree.root)
            for command in commands}


def is_listed(tree, path):
    """True when the CMakeLists.txt of the file's folder or of one above names it."""
    folder = os.path.dirname(path)
    while folder:
        cmake = folder + "/CMakeLists.txt"
        if cmake in tree.files:
            return re.search(rf"(?<![\w/.-]){re.escape(os.path.relpath(path, folder))}(?![\w.-])",
                             tree.text(cmake)) is not None
        folder = os.path.dirname(folder)
    return False


def main():
    tree = Tree(root_argument())
    if len(sys.argv) != 3:
        sys.exit("usage: sources.py ROOT BUILD_FOLDER")
    report = Report("sources")
    compiled = compiled_sources(tree, sys.argv[2])
    included = set()
    for path in tree.c_files():
        for header in INCLUDE.findall(blank_comments(tree.text(path) or "", literals=False)):
            included.add(header)
            included.add(os.path.normpath(os.path.join(os.path.dirname(path), header)))
            included.update(os.path.join(folder, header) for folder in INCLUDE_PATHS)
    for path in tree.c_files():
        report.checked += 1
        if path.endswith((".c", ".cu")):
            optional = is_under(path, OPTIONAL)
            if path not in compiled and not (optional and is_listed(tree, path)):
                report.fault(path, 0, "no target compiles this file",
                             "list it in the CMakeLists.txt of its folder, or delete it")
        elif path not in included:
            report.fault(path, 0, "no file includes this header", "include it, or delete it")
    report.finish()


main()
