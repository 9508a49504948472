#!/usr/bin/env python3
"""events.jsonl tells these events, in this order: events.py FILE 'KIND key=value key~regex' ..."""

import json
import re
import sys


def matches(event, kind, conditions):
    if event.get("event") != kind:
        return False
    for condition in conditions:
        key, operator, value = re.fullmatch(r"(\w+)([=~])(.*)", condition).groups()
        found = event.get(key)
        if operator == "=" and str(found) != value:
            return False
        if operator == "~" and (found is None or not re.search(value, str(found))):
            return False
    return True


with open(sys.argv[1], encoding="utf-8") as file:
    events = [json.loads(line) for line in file]
position = 0
for number, wanted in enumerate(sys.argv[2:], 1):
    kind, *conditions = wanted.split()
    while position < len(events) and not matches(events[position], kind, conditions):
        position += 1
    if position == len(events):
        for event in events:
            print(json.dumps(event))
        sys.exit(f"events: number {number}, \"{wanted}\", is not told (behind those before it)")
    position += 1
