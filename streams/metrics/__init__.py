"""Windowed metrics from events: partials per source partition, then their merge.

Reading order: `parts.py` (what is added up), `reading.py`, `addition.py` and `plan.py` (definitions
as arithmetic), `fate.py` (which events count), `runs.py` (how state is kept), `source.py`,
`sketches.py` and `emission.py` (the first stage), `merge.py`, `fold.py`, `results.py` and
`updates.py` (the second), `outputs.py` and `tasks.py` (both as the engine's tasks).
"""
