"""Windowed metrics from events: partials per source partition, then their merge.

Reading order: `parts.py` (what is added up), `plan.py` (definitions as columns), `fate.py` (which
events count), `runs.py` (how state is kept), `source.py` and `sketches.py` (the first stage),
`merge.py` and `results.py` (the second), `tasks.py` (both as the engine's tasks).
"""
