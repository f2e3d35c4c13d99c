"""b7's application: calls `track()`, times each call, and says what all of it cost.

    python -m bench.jobs.track CLIENT.json EVENTS RATE

RATE is events a second, 0 as fast as the queue takes them. Prints one JSON object. The first
events are left out: the sender imports its modules then.
"""

import json
import sys
import time

from streamgauge.producers import Client

WARM = 1000
PAUSE_S = 0.005


def main() -> None:
    settings, events, rate = json.loads(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    client = Client(**settings)
    for number in range(WARM):
        _track(client, number)
    assert client.flush(60) == 0, client.stats()
    cpu, began = time.process_time(), time.monotonic()
    took = []
    for number in range(events):
        if rate and number > (time.monotonic() - began) * rate:
            time.sleep(PAUSE_S)
        at = time.perf_counter_ns()
        _track(client, number)
        took.append(time.perf_counter_ns() - at)
    assert client.flush(120) == 0, client.stats()
    cpu, wall = time.process_time() - cpu, time.monotonic() - began
    client.close()
    took.sort()
    told = {
        "median_us": took[len(took) // 2] / 1000,
        "p99_us": took[len(took) * 99 // 100] / 1000,
        "cpu_us": cpu / events * 1e6,
        "rate": events / wall,
        "delivered": client.stats().delivered - WARM,
    }
    print(json.dumps(told))


def _track(client: Client, number: int) -> None:
    client.track(
        "page_view",
        f"u{number % 1000}",
        session_id="s-17",
        page_url="/pricing",
        referrer="https://example.com/",
        device_type="mobile",
    )


if __name__ == "__main__":
    main()
