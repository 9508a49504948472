#!/usr/bin/env python3
"""Every check can fail: each is run on a small tree with one fault in it: self_test.py ROOT"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
FORMAT = os.path.join(sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "../.."),
                      ".clang-format")
LONG_BODY = "{\n" + "    f();\n" * 67 + "}\n"

# check, files of the tree, what its output must match; None: it must pass
CASES = [
    ("layering", {"base/a.c": '#include "base/a.h"\n', "base/a.h": ""}, None),
    ("layering", {"base/a.c": '\n#include "trainer/t.h"\n', "trainer/t.h": ""},
     r"base/a.c:2: .*out of reach: base may include base/\*"),
    ("layering", {"checkpoint/a.c": '#include "collectives/comm.h"\n', "collectives/comm.h": ""},
     r"checkpoint/a.c:1: .*out of reach"),
    ("layering", {"checkpoint/parallel/a.c": '#include "collectives/comm.h"\n',
                  "collectives/comm.h": ""}, None),
    ("layering", {"tools/a.c": '#include "collectives/mpi/mpi.h"\n', "collectives/mpi/mpi.h": ""},
     r"tools/a.c:1: .*out of reach"),
    ("layering", {"trainer/model/a.c": '#include "trainer/ops/cpu/cpu.h"\n',
                  "trainer/ops/cpu/cpu.h": ""}, r"trainer/model/a.c:1: .*out of reach"),
    ("layering", {"base/a.c": '#include "a.h"\n', "base/a.h": ""},
     r'base/a.c:1: .*relative.*include "base/a.h"'),
    ("layering", {"base/a.c": '#include "base/gone.h"\n'}, r"base/a.c:1: .*not in the tree"),
    ("layering", {"tests/a.c": '#include "a.h"\n#include "base/b.h"\n', "tests/a.h": "",
                  "base/b.h": ""}, None),
    ("layering", {"new/a.c": '#include "base/b.h"\n', "base/b.h": ""}, r"new/a.c:1: .*no layer"),
    ("layering", {"base/a.c": "/*\n#include <mpi.h>\n*/\n"}, None),
    ("layering", {"collectives/mpi/a.c": "#include <mpi.h>\n"}, None),
    ("layering", {"collectives/a.c": "#include <omp.h>\n#include <mpi.h>\n"},
     r"collectives/a.c:2: <mpi.h> of MPI"),
    ("layering", {"base/a.c": '#include "mpi.h"\n'}, r"base/a.c:1: <mpi.h> of MPI"),
    ("layering", {"checkpoint/store.c": "#include <hdf5.h>\n"}, r"store.c:1: .*HDF5"),
    ("layering", {"trainer/a.c": "#include <oneapi/dnnl/dnnl.h>\n"}, r"a.c:1: .*oneDNN"),
    ("layering", {"trainer/a.c": "#include <yaml.h>\n"}, r"a.c:1: .*libyaml"),
    ("layering", {"checkpoint/a.c": "#include <jansson.h>\n"}, r"a.c:1: .*Jansson"),
    ("layering", {"checkpoint/a.c": "#include <xxhash.h>\n"}, r"a.c:1: .*xxHash"),
    ("layering", {"base/a.c": "#include <uv.h>\n"}, r"a.c:1: .*libuv"),
    ("layering", {"base/a.c": "#include <sodium.h>\n"}, r"a.c:1: .*libsodium"),
    ("layering", {"trainer/a.c": "#include <cuda_runtime.h>\n"}, r"a.c:1: .*CUDA"),
    ("layering", {"trainer/a.c": "#include <nccl.h>\n"}, r"a.c:1: .*NCCL"),
    ("layering", {"tools/a.c": "#pragma omp parallel for\n"}, r"tools/a.c:1: OpenMP"),

    ("style", {"base/a.c": "int f(void)\n{\n" + "    f();\n" * 66 + "}\n"}, None),
    ("style", {"base/a.c": "\nint f(void)\n" + LONG_BODY}, r"base/a.c:2: a function of 70 lines"),
    ("style", {"base/a.c": "int a(void);\n" * 501}, r"base/a.c: 501 lines, over 500"),
    ("style", {"base/a.c": "/* Long because of its table. */\n" + "int a(void);\n" * 501}, None),
    ("style", {"base/a.c": "/* Long because of its table. */\n" + "int a(void);\n" * 801},
     r"base/a.c: 802 lines, 800 are allowed"),
    ("style", {"base/a.h": "int a(void);\n" * 149}, None),
    ("style", {"base/a.h": "int a(void);\n" * 150}, r"base/a.h: 150 lines, a header"),
    ("style", {"a.def": "KEY(a)\n" * 500}, None),
    ("style", {"a.c": "\n/* TO" "DO: more */\n"}, r'a.c:2: the word "TO' r'DO"'),
    ("style", {"docs/a.md": "this is not impl" "emented\n"}, r"docs/a.md:1: the word"),
    ("style", {"a.sh": "cd /ho" "me/me\n"}, r"a.sh:1: the word"),
    ("style", {"a.sh": "cd $HOME/ho" "me/me; mktemp a.XXXXXX\n"}, None),
    ("style", {"a.md": "see issue " "#12\n"}, r"a.md:1: the word"),
    ("style", {"base/a.c": "\n    exit(1);\n"}, r"base/a.c:2: a library uses exit"),
    ("style", {"base/a.c": "    printf(x);\n"}, r"base/a.c:1: a library uses printf"),
    ("style", {"checkpoint/a.c": "    fprintf(stderr, x);\n"}, r"a.c:1: a library uses stderr"),
    ("style", {"collectives/a.c": "    puts(x);\n"}, r"collectives/a.c:1: a library uses puts"),
    ("style", {"trainer/a.c": "    abort();\n"}, r"trainer/a.c:1: a library uses abort"),
    ("style", {"base/a.c": '/* exit(1) */ f("exit(1)"); snprintf(a); b->abort(c); fprintf(out);\n'
               "int p(void) __attribute__((format(printf, 1, 2)));\n"}, None),
    ("style", {"tools/a.c": "    exit(1);\n"}, None),
    ("style", {"base/a.c": "static int count;\n"}, r"base/a.c:1: a global that can change"),
    ("style", {"base/a.c": "struct trm_a all[3] = {0};\n"}, r"base/a.c:1: a global that can"),
    ("style", {"base/a.c": "static const int a = 1;\nstruct trm_b;\nextern int c;\nint f(int a);\n"
               "static volatile sig_atomic_t stop;\nstruct trm_d {\n    int e;\n};\n"}, None),
    ("style", {"base/a.c": "#pragma omp parallel for reduction(+ : sum)\n"},
     r"a.c:1: .*an order of its own"),
    ("style", {"trainer/ops/cpu/a.c": "x = expf(y);\n"}, r"a.c:1: .*C library"),
    ("style", {"CMakeLists.txt": "set(a -ffast" "-math)\n"}, r"CMakeLists.txt:1: .*reorder"),

    ("links", {"a.md": "[b](docs/b.md#a-b) `[x](y)`\n```\n[x](y)\n```\n",
               "docs/b.md": "## A `b`\n[a](../a.md) [w](https://example.org)\n"}, None),
    ("links", {"a.md": "\n[b](docs/b.md)\n"}, r"a.md:2: the link to docs/b.md leads nowhere"),
    ("links", {"a.md": "[b](b.md#c)\n", "b.md": "# d\n"}, r"a.md:1: b.md has no heading #c"),
    ("links", {"a.c": "/* docs/b.md */\n"}, r"a.c:1: mentions docs/b.md"),

    ("sources", {"base/a.c": '#include "base/a.h"\n', "base/a.h": "", "build:": ["base/a.c"]},
     None),
    ("sources", {"base/a.c": "", "base/b.c": "", "build:": ["base/b.c"]},
     r"base/a.c: no target compiles"),
    ("sources", {"base/a.c": "", "base/a.h": "", "build:": ["base/a.c"]},
     r"base/a.h: no file includes"),
    ("sources", {"trainer/ops/cuda/a.cu": "", "build:": []}, r"a.cu: no target compiles"),
    ("sources", {"trainer/ops/cuda/a.cu": "",
                 "trainer/ops/cuda/CMakeLists.txt": "f(a.cu)\n", "build:": []}, None),

    ("headers", {"base/a.c": "", "base/a.h": "int a(void);\n", "build:": ["base/a.c"]}, None),
    ("headers", {"base/a.c": "", "base/a.h": "size_t a(void);\n", "build:": ["base/a.c"]},
     r"base/a.h: does not compile by itself"),

    ("format", {"a.c": "int a(void)\n{\n    return 1;\n}\n"}, None),
    ("format", {"a.c": "int b;\nint  a;\n"}, r"a.c:2: is not formatted; run clang-format -i a.c"),
]


def make_tree(root, files):
    for path, text in files.items():
        if path == "build:":
            commands = [{"directory": root, "file": os.path.join(root, source),
                         "command": f"cc -I{root} -o x.o -c {source}"} for source in text]
            with open(os.path.join(root, "compile_commands.json"), "w") as file:
                json.dump(commands, file)
            continue
        os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
        with open(os.path.join(root, path), "w") as file:
            file.write(text)


def run(*command):
    result = subprocess.run([sys.executable, "-B", *command], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)
    return result.returncode, result.stdout


def run_case(check, files, expected):
    with tempfile.TemporaryDirectory() as root:
        make_tree(root, files)
        arguments = [root]
        if check in ("sources", "headers"):
            arguments.append(root)
        if check == "format":
            shutil.copy(FORMAT, root)
        code, output = run(os.path.join(HERE, check + ".py"), *arguments)
    if expected is None:
        return None if code == 0 else f"should pass, but said:\n{output}"
    if code != 0 and re.search(expected, output):
        return None
    return f'should fail and match "{expected}", but ended with {code} and said:\n{output}'


def git_cases():
    """Ignored files don't count, new ones do."""
    with tempfile.TemporaryDirectory() as root:
        subprocess.run(["git", "init", "-q", root], check=True)
        make_tree(root, {".gitignore": "/build/\n", "build/a.c": "static int a;\n"})
        code, output = run(os.path.join(HERE, "style.py"), root)
        if code != 0:
            yield f"an ignored file was checked:\n{output}"
        make_tree(root, {"base/a.c": "static int a;\n"})
        code, output = run(os.path.join(HERE, "style.py"), root)
        if code == 0 or "base/a.c:1" not in output:
            yield f"an untracked file was not checked:\n{output}"


def program_cases():
    """A program that links a library named like MPI's is found out, directly or not."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    check = os.path.join(HERE, "program_libraries.py")
    with tempfile.TemporaryDirectory() as root:
        make_tree(root, {"lib.c": "int lib(void)\n{\n    return 0;\n}\n", "between.c":
                         "int lib(void);\nint between(void)\n{\n    return lib();\n}\n",
                         "main.c": "int CALL(void);\nint main(void)\n{\n    return CALL();\n}\n"})
        os.makedirs(os.path.join(root, "bad"))

        def build(*arguments):
            subprocess.run([compiler, *arguments, f"-L{root}", f"-Wl,-rpath,{root}"], check=True,
                           cwd=root)

        build("-shared", "-fPIC", "lib.c", "-o", "libmpi.so.40", "-Wl,-soname,libmpi.so.40")
        build("-shared", "-fPIC", "between.c", "-o", "libbetween.so", "-l:libmpi.so.40")
        for call, library, words in (("lib", "-l:libmpi.so.40", "links libmpi.so.40"),
                                     ("between", "-lbetween", "pulls in libmpi.so.40")):
            build(f"-DCALL={call}", "main.c", "-o", "trireme", library)
            code, output = run(check, os.path.join(root, "trireme"))
            if code == 0 or words not in output:
                yield f'program_libraries should say "{words}", but said:\n{output}'
        build("-Dlib=main", "lib.c", "-o", "trireme")
        code, output = run(check, os.path.join(root, "trireme"))
        if code != 0:
            yield f"program_libraries should pass a plain program, but said:\n{output}"
        code, _ = run(check, os.path.join(root, "bad", "trireme"))
        if code == 0:
            yield "program_libraries passes a program that is not there"


def main():
    faults = 0
    for check, files, expected in CASES:
        problem = run_case(check, files, expected)
        if problem:
            faults += 1
            print(f"{check} on {sorted(files)}: {problem}")
    for problem in [*git_cases(), *program_cases()]:
        faults += 1
        print(problem)
    print(f"self_test: {len(CASES)} cases, {faults} failed")
    sys.exit(1 if faults else 0)


main()
