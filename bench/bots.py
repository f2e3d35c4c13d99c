"""How often the bot detector takes people for bots, and how soon it sees bots.

    nice python -m bench.bots

People are Poisson processes, always busy: the hardest ones to tell from clocks. Bots are clocks of
a period, each step off by some share of it. Found means flagged by the end of the
third whole minute.
"""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np

from streamgauge.streams.anomalies.users import MINUTE_MS, Judged, Minute, judge

WHO = (0, "u")


def minutes_of(times: np.ndarray) -> list[Minute]:
    """As the worker makes them."""
    times = np.sort(times)
    starts = np.arange(times[0] // MINUTE_MS, times[-1] // MINUTE_MS + 2) * MINUTE_MS
    place = np.searchsorted(times, starts)
    found = []
    for at, (begin, end) in enumerate(pairwise(place.tolist())):
        within = times[begin:end] - starts[at]
        if len(within) < 5:
            continue
        spread, count = float(within[-1] - within[0]), len(within)
        comb = spread**2 * (count + 1) / (12 * (count - 1))
        even = float(within.var()) / comb if comb else 0.0
        first, last = int(within[0]), int(within[-1])
        found.append(Minute(int(starts[at]), count, even, 0, first, last))
    return found


def flags(times: np.ndarray) -> list[int]:
    """When a bot was seen: the ends of the minutes."""
    minutes = [(WHO, minute) for minute in minutes_of(times)]
    done = {0: int(times.max()) + 10 * MINUTE_MS}
    words = (told.word for told in judge(Judged(), minutes, done)[1])
    opened = [w for w in words if w and w["detector"] == "bot" and w["version"] == 1]
    return [word["started_at"] + MINUTE_MS for word in opened]


def main() -> None:
    """Run it and print a line of JSON each."""
    random, busy = np.random.default_rng(1), 20_000
    for rate in (10, 20, 40, 80):
        people = random.integers(0, busy * MINUTE_MS, rate * busy)
        found = len(flags(people))
        print(json.dumps({"people_per_minute": rate, "busy_minutes": busy, "flags": found}))
    for period in (500, 2_000, 4_000, 7_000):
        for jitter in (0.0, 0.02, 0.05, 0.1):
            found, runs = 0, 100
            for _ in range(runs):
                start = int(random.integers(0, MINUTE_MS))
                beats = np.arange(start, start + 12 * MINUTE_MS, period)
                times = beats + np.rint(random.normal(0, jitter * period, len(beats))).astype(int)
                whole = -(-start // MINUTE_MS) * MINUTE_MS
                found += any(at <= whole + 3 * MINUTE_MS for at in flags(np.abs(times)))
            line = {"bot_period_ms": period, "jitter": jitter, "found": f"{found}/{runs}"}
            print(json.dumps(line))


if __name__ == "__main__":
    main()
