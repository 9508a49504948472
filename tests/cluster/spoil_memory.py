#!/usr/bin/env python3
"""Flips bits in all memory slots that an agent holds, as bad memory would: spoil_memory.py PID"""

import os
import sys

folder = f"/proc/{sys.argv[1]}/fd"
spoilt = 0
for name in os.listdir(folder):
    path = os.path.join(folder, name)
    if not os.readlink(path).startswith("/memfd:trireme-slot"):
        continue
    descriptor = os.open(path, os.O_RDWR)
    size = os.fstat(descriptor).st_size
    # Data lies at the end; one bit in each of its pages hits every slice.
    for offset in range(size // 2, size, 4096):
        byte = os.pread(descriptor, 1, offset)
        os.pwrite(descriptor, bytes([byte[0] ^ 1]), offset)
    os.close(descriptor)
    spoilt += 1
if spoilt == 0:
    sys.exit("spoil_memory: that process holds no memory slots")
