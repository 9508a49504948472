#!/usr/bin/env python3
"""Links between documents lead somewhere, and so do mentions of them: links.py ROOT"""

import os
import re

from tree import Report, Tree, root_argument

LINK = re.compile(r"(?<!\!)\[[^\]\n]*\]\(([^)\s]+)[^)\n]*\)|!\[[^\]\n]*\]\(([^)\s]+)\)")
MENTION = re.compile(r"(?<![\w/.-])((?:docs|examples|bench|tests)/[\w./-]*\w\.(?:md|sh|yaml|py))\b")
CODE_BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
CODE_SPAN = re.compile(r"`[^`\n]*`")


def anchors_of(text):
    """The anchors of a document's headings, as forges make them."""
    anchors = set()
    for heading in re.findall(r"^#+[ \t]+(.*?)[ \t]*#*$", text, re.MULTILINE):
        words = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower())
        anchors.add(words.replace(" ", "-"))
    return anchors


def check_link(tree, report, path, line, target):
    if re.match(r"[a-z][a-z0-9+.-]*:", target):
        return
    name, _, anchor = target.partition("#")
    goal = os.path.normpath(os.path.join(os.path.dirname(path), name)) if name else path
    if not os.path.exists(os.path.join(tree.root, goal)):
        report.fault(path, line, f"the link to {target} leads nowhere", "fix the path")
    elif anchor and goal.endswith(".md") and anchor not in anchors_of(tree.text(goal) or ""):
        report.fault(path, line, f"{goal} has no heading #{anchor}", "fix the anchor")


def blank(match):
    return re.sub(r"[^\n]", " ", match.group(0))


def main():
    tree = Tree(root_argument())
    report = Report("links")
    for path in tree.files:
        text = tree.text(path)
        if text is None or path.startswith("tests/lint/"):
            continue
        report.checked += 1
        if path.endswith(".md"):
            prose = CODE_SPAN.sub(blank, CODE_BLOCK.sub(blank, text))
            for match in LINK.finditer(prose):
                check_link(tree, report, path, text.count("\n", 0, match.start()) + 1,
                           match.group(1) or match.group(2))
        for match in MENTION.finditer(text):
            if not os.path.exists(os.path.join(tree.root, match.group(1))):
                report.fault(path, text.count("\n", 0, match.start()) + 1,
                             f"mentions {match.group(1)}, which is not there",
                             "write that file, or fix the name")
    report.finish()


main()
