"""Anomalies on one metric series: pure, one point at a time, from the past alone.

Reading order: `flag.py` (what comes out), `season.py`, `forecast.py` and `scale.py` (what is
expected, and how closely), `evidence.py` (what is measured against it), `tail.py` (how rare that
is), `incident.py` (when a flag opens and clears), `absence.py` (missing data), `levels.py`
(thresholds with a duration), `series.py` (the whole detector), `snapshot.py` (its state as JSON).
"""
