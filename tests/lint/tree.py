"""What all lint checks share: the files of the tree, C without comments, and the report."""

import os
import re
import subprocess
import sys

BUILD_FOLDERS = {".git", "build", "runs", ".quickstart"}


class Tree:
    """The files git tracks and those it would, or, outside of git, all but build folders."""

    def __init__(self, root):
        self.root = os.path.abspath(root)
        self.files = sorted(self._git_files() or self._walk())

    def _git_files(self):
        if not os.path.exists(os.path.join(self.root, ".git")):
            return None
        listed = subprocess.run(
            ["git", "-c", "safe.directory=*", "-C", self.root, "ls-files", "-z",
             "--cached", "--others", "--exclude-standard"],
            check=True, stdout=subprocess.PIPE).stdout.decode()
        return [path for path in listed.split("\0")
                if path and os.path.isfile(os.path.join(self.root, path))]

    def _walk(self):
        found = []
        for folder, folders, names in os.walk(self.root):
            folders[:] = [name for name in folders if name not in BUILD_FOLDERS]
            found += [os.path.relpath(os.path.join(folder, name), self.root) for name in names]
        return found

    def c_files(self):
        return [path for path in self.files if path.endswith((".c", ".h", ".cu", ".cuh"))]

    def text(self, path):
        """The file's text, or None for one that is not text."""
        with open(os.path.join(self.root, path), "rb") as file:
            data = file.read()
        try:
            return None if b"\0" in data else data.decode()
        except UnicodeDecodeError:
            return None


def is_under(path, places):
    """True when `path` is one of `places` (files or folders; "" is the whole tree)."""
    return any(place == "" or path == place or path.startswith(place.rstrip("/") + "/")
               for place in places)


_COMMENT_OR_LITERAL = re.compile(
    r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)


def blank_comments(text, literals=True):
    """C with comments (and the insides of literals) blanked, lines and columns kept."""

    def blank(match):
        found = match.group(0)
        if found[0] in "\"'":
            return found[0] + " " * (len(found) - 2) + found[0] if literals else found
        return re.sub(r"[^\n]", " ", found)

    return _COMMENT_OR_LITERAL.sub(blank, text)


class Report:
    """Collects "place: what is wrong; what to do" and ends the check."""

    def __init__(self, name):
        self.name = name
        self.faults = []
        self.checked = 0

    def fault(self, path, line, what, todo):
        place = f"{path}:{line}" if line else path
        self.faults.append(f"{place}: {what}; {todo}")

    def finish(self):
        for fault in self.faults:
            print(fault)
        if self.faults:
            print(f"{self.name}: {len(self.faults)} faults")
        elif self.checked == 0:
            print(f"{self.name}: nothing was checked; give the root of the tree")
        else:
            print(f"{self.name}: {self.checked} files are in order")
        sys.exit(1 if self.faults or self.checked == 0 else 0)


def root_argument():
    """The tree's root: the first argument of every check."""
    if len(sys.argv) < 2 or not os.path.isdir(sys.argv[1]):
        sys.exit(f"usage: {os.path.basename(sys.argv[0])} ROOT_OF_THE_TREE ...")
    return sys.argv[1]
