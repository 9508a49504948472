#!/usr/bin/env python3
"""Every C file is as clang-format writes it: format.py ROOT [CLANG_FORMAT]"""

import re
import shutil
import subprocess
import sys

from tree import Report, Tree, root_argument

tree = Tree(root_argument())
report = Report("format")
program = shutil.which(sys.argv[2] if len(sys.argv) > 2 else "clang-format")
if not program:
    sys.exit("format: clang-format is not installed, so nothing was checked; "
             "install it (Debian: apt-get install clang-format)")

files = tree.c_files()
report.checked = len(files)
result = subprocess.run([program, "--dry-run", "-Werror", "--style=file", *files], cwd=tree.root,
                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
seen = set()
for line in result.stderr.splitlines():
    match = re.match(r"(.*?):(\d+):\d+: error: code should be clang-formatted", line)
    if match and match.group(1) not in seen:
        seen.add(match.group(1))
        report.fault(match.group(1), int(match.group(2)), "is not formatted",
                     f"run clang-format -i {match.group(1)}")
if result.returncode != 0 and not seen:
    sys.exit(f"format: {program} failed:\n{result.stderr}")
report.finish()
