#!/usr/bin/env python3
"""House style that a compiler doesn't see: lengths, words, and who may print: style.py ROOT"""

import re

from tree import Report, Tree, blank_comments, is_under, root_argument

FUNCTION_LINES = 70  # a function is shorter than this, signature and braces included
SOURCE_LINES = 500  # a .c file over this says "Long because" in its head
SOURCE_LINES_LIMIT = 800
HEADER_LINES = 150  # a header is shorter than this

# The checks themselves have to name what they look for.
WORDS_EXEMPT = ["tests/lint", "LICENSE"]
BANNED_WORDS = [
    (r"\bTODO\b|\bFIXME\b|\bXXX\b|\bHACK\b", "do it now, or leave it out"),
    (r"(?i)\bstubs?\b|\bnot implemented\b", "finish it, or leave it out and refuse it in words"),
    (r"(?<![\w.])/(root|home)/", "name no place of one machine"),
    (r"(?i)\bissue #?\d", "say the reason itself; history is for commits"),
]

# Libraries report to their callers: they neither end the process nor print.
LIBRARIES = ["base", "collectives", "checkpoint", "trainer", "launch"]
CALLS = (r"(?<![\w.>])(exit|_exit|_Exit|quick_exit|abort|printf|vprintf|puts|putchar|perror|"
         r"dprintf|vdprintf|err|errx|warn|warnx)\s*\(|"
         r"\b(stdout|stderr|STDOUT_FILENO|STDERR_FILENO)\b")
MAY_END_OR_PRINT = {
    "base/assert.c": "a failed assertion ends the process, whose state is wrong",
    "trainer/main.c": "a main function",
    "trainer/run.c": "the loop that logs",
    "trainer/metrics.c": "the step lines for people",
    "collectives/watchdog.c": "its job is to end a process that hangs",
    "launch/child.c": "a forked child whose program could not be started",
}

# One flag that a signal handler sets is the only global that changes.
MUTABLE_GLOBAL = re.compile(
    r"^(?:static\s+)?(?!static|const\b|typedef|extern|struct \w+;|enum|union|return|"
    r"volatile sig_atomic_t)(?:[A-Za-z_]\w*[ \t]+)+\**\w+(?:\[[^\]\n]*\])*\s*(?:=[^=].*|;)$",
    re.MULTILINE)

# The same bits on any machine and at any number of threads.
SAME_BITS = [
    (r"#\s*pragma\s+omp.*\breduction\s*\(", [""], "OpenMP adds in an order of its own",
     "sum fixed blocks in a fixed order"),
    (r"\b(expf?|exp2f?|expm1f?|logf?|log2f?|powf?|tanhf?|erff?|sinf?|cosf?)\s*\(",
     ["base", "trainer/ops/cpu", "trainer/optimizer", "trainer/model"],
     "the C library's result depends on its version and processor",
     "use a function of our own"),
    (r"-ffast-math|-Ofast|-funsafe-math-optimizations|-fassociative-math", [""],
     "this flag lets the compiler reorder sums", "leave it out"),
]


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def check_functions(report, path, code):
    """The house format puts a function's braces, and nothing else's, alone in column one."""
    lines = code.split("\n")
    for number, line in enumerate(lines):
        if line != "{":
            continue
        first = number
        while first > 0 and lines[first - 1].strip() and lines[first - 1][0] not in "}#":
            first -= 1
        last = number
        while last + 1 < len(lines) and lines[last] != "}":
            last += 1
        length = last - first + 1
        if length >= FUNCTION_LINES:
            report.fault(path, first + 1, f"a function of {length} lines, {FUNCTION_LINES - 1} "
                         "are allowed", "give its parts names of their own")


def check_lengths(report, path, text):
    length = text.count("\n")
    if path.endswith((".h", ".cuh")) and length >= HEADER_LINES:
        report.fault(path, 0, f"{length} lines, a header has under {HEADER_LINES}",
                     "split it, or move what callers don't need to an internal header")
    if not path.endswith((".c", ".cu")):
        return
    head = re.match(r"\s*/\*.*?\*/", text, re.DOTALL)
    if length > SOURCE_LINES_LIMIT:
        report.fault(path, 0, f"{length} lines, {SOURCE_LINES_LIMIT} are allowed", "split it")
    elif length > SOURCE_LINES and not (head and "Long because" in head.group(0)):
        report.fault(path, 0, f"{length} lines, over {SOURCE_LINES}",
                     'split it, or say "Long because ..." in the comment at its head')


def check_library(report, path, code):
    if not is_under(path, LIBRARIES):
        return
    if path not in MAY_END_OR_PRINT:
        for match in re.finditer(CALLS, code):
            report.fault(path, line_of(code, match.start()),
                         f"a library uses {match.group(1) or match.group(2)}",
                         "return a status, or write to what the caller passes in")
    for match in MUTABLE_GLOBAL.finditer(code):
        report.fault(path, line_of(code, match.start()),
                     f"a global that can change: {match.group(0).split('=')[0].strip()}",
                     "pass a context")


def check_same_bits(report, path, code):
    for pattern, places, what, todo in SAME_BITS:
        if not is_under(path, places):
            continue
        for match in re.finditer(pattern, code):
            report.fault(path, line_of(code, match.start()), f"{match.group(0).strip()}: {what}",
                         todo)


def main():
    tree = Tree(root_argument())
    report = Report("style")
    c_files = set(tree.c_files())
    for path in tree.files:
        text = tree.text(path)
        if text is None:
            continue
        report.checked += 1
        if not is_under(path, WORDS_EXEMPT):
            for pattern, todo in BANNED_WORDS:
                for match in re.finditer(pattern, text):
                    report.fault(path, line_of(text, match.start()),
                                 f'the word "{match.group(0)}"', todo)
        if path in c_files:
            code = blank_comments(text)
            check_functions(report, path, code)
            check_lengths(report, path, text)
            check_library(report, path, code)
            check_same_bits(report, path, code)
        elif path.endswith(("CMakeLists.txt", ".cmake", "CMakePresets.json")):
            check_same_bits(report, path, text)
    report.finish()


main()
