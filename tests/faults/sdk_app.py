"""An application that tracks events and writes down, line by line, what it was told of each.

    python sdk_app.py CLIENT.json FIRST LAST RATE TOLD

Lines of TOLD, each written before the next event: `accepted ID`, `refused ID` (QueueFull),
`delivered ID`, `spooled ID`, `dropped ID REASON`; `closed` at the end. They outlive `kill -9`.
"""

import json
import os
import sys
import time

from streamgauge.producers import Client, QueueFull, Undelivered

settings, first, last, rate, told = sys.argv[1:]
out = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def tell(*words):
    os.write(out, (" ".join(map(str, words)) + "\n").encode())


client = Client(
    **json.loads(settings),
    on_outcome=lambda one: tell(one.status, one.event_id, one.reason or ""),
)
began = time.monotonic()
for number in range(int(first), int(last)):
    time.sleep(max(0.0, began + (number - int(first)) / float(rate) - time.monotonic()))
    event_id = f"event-{number}"
    try:
        client.track(
            "page_view", user_id=f"u{number % 50}", event_id=event_id, page_url="/" + "x" * 100
        )
        tell("accepted", event_id)
    except QueueFull:
        tell("refused", event_id)
if first == last:  # it came for what others have left
    left = sys.maxsize
    while still := client.flush(60):
        assert still < left, client.stats()
        left = still
try:
    client.close(60)
except Undelivered:  # the spool is full: each was told to be dropped
    pass
tell("closed")
