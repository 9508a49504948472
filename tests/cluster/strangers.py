#!/usr/bin/env python3
"""What a supervisor must shrug off: strangers.py HOST PORT

Connections that say nothing, noise, a web request, a giant length, a handshake without the token, and a
false heartbeat, a few hundred in all; each with a bound."""

import os
import socket
import struct
import sys

address = (sys.argv[1], int(sys.argv[2]))
beat = b'{"type":"beat","number":1,"attempt":1,"dead":1,"slots":0,"slot_bytes":0,"launcher":"none","ranks":[]}'
messages = [
    b"",
    os.urandom(4096),
    b"GET / HTTP/1.1\r\nHost: head\r\n\r\n",
    struct.pack("<I", 0xFFFFFFFF) + b"x" * 64,
    os.urandom(32) + b"node1" + os.urandom(32),
    struct.pack("<IQ", len(beat), 0) + beat + b"\0" * 32,
]
silent = []
for number in range(240):
    connection = socket.create_connection(address, timeout=5)
    message = messages[number % len(messages)]
    try:
        connection.sendall(message)
    except OSError:
        pass
    if message:
        connection.close()
    else:
        silent.append(connection)
for connection in silent:
    connection.close()
