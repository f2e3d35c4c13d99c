"""Sinks: output topics into Postgres, Redis and Parquet, each record exactly once.

Upstream: Kafka, read as committed. Downstream: analysts, the dashboard, `verify`.
Reading order: `sink.py` (what a sink is), `runner.py` (who calls it), then one of the three.
"""
