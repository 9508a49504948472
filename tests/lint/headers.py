#!/usr/bin/env python3
"""Every header compiles by itself: headers.py ROOT BUILD"""

import json
import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from tree import Report, Tree, root_argument

# Compiled where their libraries are installed; elsewhere there are no flags to try them with.
OPTIONAL = ("collectives/nccl/", "trainer/ops/cuda/", "tests/fake/", "tests/mpi/nccl/")


def flags_by_folder(tree, build):
    """For each folder, the compiler and the options of one of its sources."""
    path = os.path.join(build, "compile_commands.json")
    if not os.path.exists(path):
        sys.exit(f"headers: {path} is missing; configure that build folder with cmake first")
    flags = {}
    with open(path) as file:
        for command in json.load(file):
            words = shlex.split(command["command"])
            if "-o" not in words or not command["file"].endswith(".c"):
                continue
            folder = os.path.dirname(os.path.relpath(command["file"], tree.root))
            flags.setdefault(folder, words[:words.index("-o")])
    return flags


def main():
    tree = Tree(root_argument())
    if len(sys.argv) != 3:
        sys.exit("usage: headers.py ROOT BUILD_FOLDER")
    report = Report("headers")
    flags = flags_by_folder(tree, sys.argv[2])

    def errors_of(path):
        folder = os.path.dirname(path)
        while folder and folder not in flags:
            folder = os.path.dirname(folder)
        command = flags.get(folder) or next(iter(flags.values()))
        result = subprocess.run([*command, "-O0", "-fsyntax-only", "-Wno-unused-function",
                                 "-include", os.path.join(tree.root, path), "-x", "c",
                                 "/dev/null"], stderr=subprocess.PIPE, text=True)
        return result.stderr if result.returncode != 0 else ""

    headers = [path for path in tree.files if path.endswith(".h") and
               (not path.startswith(OPTIONAL) or os.path.dirname(path) in flags)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, errors in zip(headers, pool.map(errors_of, headers)):
            report.checked += 1
            if errors:
                report.fault(path, 0, "does not compile by itself:\n  " +
                             "\n  ".join(errors.splitlines()[:4]) + "\n  ",
                             "let it include what it uses")
    report.finish()


main()
