"""What the collector tells Prometheus: every metric, in one place."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

EVENTS = Counter(
    "streamgauge_collector_events_total", "Events by what was answered.", ["key", "status"]
)
DROPPED = Counter(
    "streamgauge_collector_dropped_total", "Events answered drop, by the code of why.", ["reason"]
)
REQUESTS = Counter(
    "streamgauge_collector_requests_total",
    "Requests by route and HTTP status.",
    ["route", "status"],
)
REFUSED = Counter(
    "streamgauge_collector_refused_total", "Requests not taken, by the code of why.", ["code"]
)
SECONDS = Histogram(
    "streamgauge_collector_request_seconds",
    "From a request's headers to its answer.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
BYTES = Counter("streamgauge_collector_body_bytes_total", "Bytes of bodies, as sent.")
BOTS = Counter("streamgauge_collector_bots_total", "Requests of browsers that are bots.")
CORRECTED = Counter(
    "streamgauge_collector_clock_corrections_total", "Requests from clocks that were corrected."
)
INFLIGHT = Gauge(
    "streamgauge_collector_inflight_bytes",
    "Bytes of requests that are not answered yet.",
    multiprocess_mode="livesum",
)
CONNECTIONS = Gauge(
    "streamgauge_collector_connections", "Open connections.", multiprocess_mode="livesum"
)
AWAY = Gauge(
    "streamgauge_collector_kafka_away",
    "1 while events go to the spool instead of Kafka.",
    multiprocess_mode="livemax",
)
FAILURES = Counter("streamgauge_collector_kafka_failures_total", "Requests Kafka did not take.")
SPOOLED = Counter("streamgauge_collector_spooled_total", "Records written to the spool.")
LOST = Counter(
    "streamgauge_collector_lost_total",
    "Spooled records that Kafka then refused for good: set max.message.bytes of the topics higher.",
)
WAITING = Gauge(
    "streamgauge_collector_spool_records",
    "Records that wait in the spool.",
    multiprocess_mode="livesum",
)
