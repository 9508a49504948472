#!/usr/bin/env python3
"""Reads tensors of a checkpoint with h5py and shows how their values are spread.

    read_checkpoint.py CHECKPOINT                    lists what is in it
    read_checkpoint.py CHECKPOINT NAME               histogram of a parameter
    read_checkpoint.py CHECKPOINT NAME --kind exp_avg_sq --log --png spread.png

CHECKPOINT is a directory like checkpoints/step-00001200, or a directory of those, of which the
newest is taken. Needs h5py and numpy (Debian: python3-h5py); --png needs matplotlib too.

checkpoint.h5 shows every tensor whole; the bytes lie in the shards next to it. HDF5 reads NaN where
a shard is missing and says nothing, so this script counts. `trireme ckpt verify` finds out why.
"""

import argparse
import os
import resource
import sys

import h5py
import numpy

KINDS = ["parameter", "exp_avg", "exp_avg_sq"]
BAR = 50


def view_of(path):
    """The view of a checkpoint, or of the newest one in a directory of them."""
    if not os.path.isfile(os.path.join(path, "checkpoint.h5")) and os.path.isdir(path):
        steps = sorted((name for name in os.listdir(path) if name.startswith("step-")),
                       key=lambda name: int(name[5:]))
        if steps:
            path = os.path.join(path, steps[-1])
    view = os.path.join(path, "checkpoint.h5")
    if not os.path.isfile(view):
        sys.exit(f"read_checkpoint: there is no {view}")
    return view


def allow_many_files():
    """HDF5 keeps each shard open that a tensor was read from, and reads NaN when it may open no
    more: let it open as many as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def text(value):
    return value.rstrip(b"\0").decode() if isinstance(value, bytes) else str(value)


def list_tensors(view):
    print(f"step {view.attrs['step']} of run {text(view.attrs['run_id'])}")
    kinds = [kind for kind in KINDS if kind in view]
    print(f"kinds: {', '.join(kinds)}")
    for name in view.attrs["names"]:
        tensor = view["parameter"][text(name)]
        print(f"  {text(name):40} {str(tensor.dtype):8} {' x '.join(map(str, tensor.shape))}")


def print_histogram(counts, edges, log):
    heights = numpy.log1p(counts) if log else counts
    most = max(heights.max(), 1e-30)
    for count, height, low, high in zip(counts, heights, edges, edges[1:]):
        bar = "#" * int(round(BAR * height / most))
        print(f"{low:12.4g} .. {high:12.4g}  {bar:{BAR}}  {count}")


def plot(path, counts, edges, title, log):
    try:
        import matplotlib
    except ImportError:
        sys.exit("read_checkpoint: --png needs matplotlib (Debian: python3-matplotlib)")
    matplotlib.use("Agg")
    from matplotlib import pyplot
    figure, axes = pyplot.subplots()
    axes.stairs(counts, edges, fill=True)
    axes.set_title(title)
    axes.set_ylabel("elements")
    if log:
        axes.set_yscale("log")
    figure.savefig(path)
    print(f"wrote {path}")


def show_tensor(view, arguments):
    place = f"{arguments.kind}/{arguments.name}"
    if place not in view:
        sys.exit(f"read_checkpoint: there is no {place}; without a name this script lists them")
    values = view[place][...].ravel().astype("float64")
    finite = values[numpy.isfinite(values)]
    print(f"{place} at step {view.attrs['step']}: {' x '.join(map(str, view[place].shape))}")
    if finite.size < values.size:
        print(f"{values.size - finite.size} of {values.size} elements are NaN or infinite: perhaps "
              "a shard is missing")
    if finite.size == 0:
        sys.exit(1)
    print(f"mean {finite.mean():.6g}  standard deviation {finite.std():.6g}  "
          f"least {finite.min():.6g}  most {finite.max():.6g}")
    counts, edges = numpy.histogram(finite, bins=arguments.bins)
    print_histogram(counts, edges, arguments.log)
    if arguments.png:
        plot(arguments.png, counts, edges, place, arguments.log)


def main():
    parser = argparse.ArgumentParser(description="Shows a tensor of a checkpoint as a histogram.")
    parser.add_argument("checkpoint")
    parser.add_argument("name", nargs="?", help="of a tensor; without one, all are listed")
    parser.add_argument("--kind", choices=KINDS, default="parameter")
    parser.add_argument("--bins", type=int, default=20)
    parser.add_argument("--log", action="store_true", help="heights on a logarithmic scale")
    parser.add_argument("--png", metavar="FILE", help="also draw it")
    arguments = parser.parse_args()
    allow_many_files()
    with h5py.File(view_of(arguments.checkpoint), "r") as view:
        if arguments.name is None:
            list_tensors(view)
        else:
            show_tensor(view, arguments)


main()
