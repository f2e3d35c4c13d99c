"""Definitions tried on a file: the worker's own logic, without Kafka.

Reading order: `reading.py` (lines to events), `log.py` (the log that they would have been),
`metrics.py` and `sessions.py` (the worker's logic, batch by batch), `run.py` (all of it),
`tables.py` (what is written).
"""
