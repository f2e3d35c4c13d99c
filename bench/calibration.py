"""How often the detectors cry wolf, and how soon they see what happens: simulated traffic.

    python -m bench.calibration --series 120 --days 25 [--step 300] [--seed 1]

Each series is Poisson counts around a rate with a daily and a weekly rhythm, a trend and noise of
its own that lasts (an AR(1) factor). Half of the series stay quiet: their red flags are false. Into
each of the others something is put in the last three days; it counts as found when a flag opens
within three windows of its beginning (a drift counts from where it has passed 40 % of the rate).
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import Counter
from dataclasses import dataclass

import numpy as np

from streamgauge.streams.anomalies.series import Rates, Series

DAY = 86_400
KINDS = ("outage", "drop", "spike", "drift")
FOUND_WITHIN = 3
"""Windows."""
LASTS = 20
"""Windows that something lasts."""
DRIFT, DRIFTED = 0.08, 0.4
"""What a drift adds a window, and from where on it counts, as shares of the rate."""


@dataclass(frozen=True, kw_only=True)
class Injected:
    """Something that happens, by the numbers of its points."""

    kind: str
    begin: int
    end: int


def traffic(random: np.random.Generator, days: int, step: int) -> np.ndarray:
    """Rates by window."""
    t = np.arange(days * DAY // step) * step
    base = math.exp(random.uniform(math.log(50), math.log(5_000))) * step / 60
    hours = 2 * math.pi * t / DAY
    daily = 1 + random.uniform(0.3, 0.8) * np.sin(hours - random.uniform(0, 6))
    daily += 0.15 * np.sin(2 * hours + random.uniform(0, 6))
    weekly = np.where((t // DAY + random.integers(7)) % 7 < 2, random.uniform(0.5, 1.0), 1.0)
    trend = 1 + random.uniform(-0.01, 0.02) * t / DAY
    noise, spread, held = random.normal(size=len(t)), random.uniform(0.01, 0.06), 0.8
    lasting = np.empty(len(t))
    level = 0.0
    for at, shock in enumerate(noise):
        level = held * level + math.sqrt(1 - held**2) * shock
        lasting[at] = level
    # A weekend does not begin at once.
    smooth = np.convolve(np.pad(weekly, 3600 // step, mode="edge"), np.ones(2 * 3600 // step + 1))
    weekly = smooth[2 * (3600 // step) : 2 * (3600 // step) + len(t)] / (2 * 3600 // step + 1)
    shape: np.ndarray = np.maximum(daily, 0.1) * weekly * trend * np.exp(spread * lasting)
    return base * shape


def injected(random: np.random.Generator, points: int, step: int) -> Injected:
    """What happens, once, in the last three days."""
    begin = int(random.integers(points - 3 * DAY // step, points - LASTS))
    return Injected(kind=str(random.choice(KINDS)), begin=begin, end=begin + LASTS)


def with_anomaly(rates: np.ndarray, one: Injected) -> int:
    """Changes the rates; the point from which it counts."""
    inside = slice(one.begin, one.end)
    if one.kind == "outage":
        rates[inside] *= 0.0
    elif one.kind == "drop":
        rates[inside] *= 0.4
    elif one.kind == "spike":
        rates[inside] *= 3.0
    else:
        rates[inside] *= 1 + DRIFT * np.arange(1, one.end - one.begin + 1)
        return one.begin + math.ceil(DRIFTED / DRIFT)
    return one.begin


def run(series: int, days: int, step: int, seed: int) -> dict[str, object]:
    """Figures of so many series."""
    random, rates = np.random.default_rng(seed), Rates()
    quiet_days = false = yellow = 0
    tried, found, points, took = Counter[str](), Counter[str](), 0, 0.0
    for number in range(series):
        expected = traffic(random, days, step)
        one = injected(random, len(expected), step) if number % 2 else None
        start = with_anomaly(expected, one) if one else 0
        values = random.poisson(expected).astype(float)
        detector = Series()
        opened: list[tuple[int, str]] = []
        began = time.process_time()
        for at, value in enumerate(values.tolist()):
            for flag in detector.judge(float(at * step), value, rates).changes:
                if flag.end is None:
                    opened.append((at, flag.severity))
        took += time.process_time() - began
        points += len(values)
        if one:
            tried[one.kind] += 1
            found[one.kind] += any(one.begin <= at < start + FOUND_WITHIN for at, _ in opened)
        else:
            quiet_days += days - 8
            known = 8 * DAY // step
            false += sum(severity == "red" for at, severity in opened if at >= known)
            yellow += sum(severity == "yellow" for at, severity in opened if at >= known)
    return {
        "series_days": quiet_days,
        "false_red_per_1000_series_days": round(1000 * false / quiet_days, 3),
        "yellow_per_series_week": round(7 * yellow / quiet_days, 3),
        "found": {kind: f"{found[kind]}/{tried[kind]}" for kind in KINDS},
        "found_share": round(sum(found.values()) / max(1, sum(tried.values())), 4),
        "us_per_point": round(1e6 * took / points, 1),
    }


def main() -> None:
    """Run it and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=120)
    parser.add_argument("--days", type=int, default=25)
    parser.add_argument("--step", type=int, default=300, help="Seconds.")
    parser.add_argument("--seed", type=int, default=1)
    print(json.dumps(run(**vars(parser.parse_args()))))


if __name__ == "__main__":
    main()
