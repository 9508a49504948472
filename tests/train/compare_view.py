#!/usr/bin/env python3
"""Holds a checkpoint's view against raw tensors: compare_view.py CHECKPOINT DIRECTORY

Prints how many tensors are equal to the last bit; else, for each that isn't, how many of its
elements differ and how many are NaN.
"""

import json
import os
import sys

import h5py
import numpy

checkpoint, directory = sys.argv[1:]
with open(os.path.join(checkpoint, "manifest.json")) as file:
    manifest = json.load(file)
equal = unequal = 0
with h5py.File(os.path.join(checkpoint, "checkpoint.h5"), "r") as view:
    assert view.attrs["step"] == manifest["step"], "step"
    assert view.attrs["run_id"].decode() == manifest["run_id"], "run_id"
    names = [tensor["name"] for tensor in manifest["tensors"]]
    assert [name.decode() for name in view.attrs["names"]] == names, "names"
    assert sorted(view) == sorted(manifest["kinds"]), "kinds"
    for kind in manifest["kinds"]:
        assert sorted(view[kind]) == sorted(names), kind
        for tensor in manifest["tensors"]:
            seen = view[kind][tensor["name"]][...]
            held = numpy.fromfile(os.path.join(directory, f"{kind}.{tensor['name']}"), "<f4")
            assert list(seen.shape) == tensor["shape"] and seen.dtype == numpy.dtype("<f4"), \
                tensor["name"]
            if seen.tobytes() == held.tobytes():
                equal += 1
                continue
            unequal += 1
            different = seen.ravel().view("<u4") != held.view("<u4")
            print(f"{kind}/{tensor['name']}: {different.sum()} of {held.size} elements differ, "
                  f"{numpy.isnan(seen).sum()} are NaN")
            if not numpy.isnan(seen.ravel()[different]).all():
                print(f"{kind}/{tensor['name']}: not all that differ are NaN")
print(f"{equal} equal, {unequal} not")
sys.exit(1 if unequal else 0)
