"""The archive: the raw topic of events as Parquet files by hour."""

from streamgauge.sinks.archive.layout import coverage

__all__ = ["coverage"]
