"""How long training stood still per asynchronous save of a run, against 10 of its steps:
    stall.py LOG METRICS
LOG is what the run said; its last save ends it, and so is no asynchronous one."""
import json
import re
import statistics
import sys

UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
found = re.findall(r"training stood still for ([\d.]+) (us|ms|s)$", open(sys.argv[1]).read(), re.M)
stalls = [float(number) * UNITS[unit] for number, unit in found][:-1]
steps = [json.loads(line)["step_ms"] / 1e3 for line in open(sys.argv[2]) if '"loss"' in line][1:]
step = statistics.median(steps)
ratios = sorted(stall / (10 * step) for stall in stalls)
print("stall per save: %.1f ms (%.1f to %.1f), step %.0f ms: %.2f %% of 10 steps (%.2f to %.2f)" % (
    1e3 * statistics.median(stalls), 1e3 * min(stalls), 1e3 * max(stalls), 1e3 * step,
    100 * statistics.median(ratios), 100 * ratios[0], 100 * ratios[-1]))
