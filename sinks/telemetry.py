"""Every Prometheus metric of the sinks. Scrape `/metrics` of the runner.

All carry the label `sink` (postgres, redis, archive, webhook:NAME), but those of the materialised
views, which only the Postgres sink has, and those of webhooks.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

# Records that reached the target: tombstones too, those overtaken within an interval not.
ROWS = Counter("streamgauge_sink_rows_total", "Records written.", ["sink", "topic"])

# Batches, each one atomic write. Rows per batch = rows / batches.
BATCHES = Counter("streamgauge_sink_batches_total", "Batches written.", ["sink", "topic"])

# Records behind the end of the partition, as last seen: alert when it grows for minutes.
LAG = Gauge("streamgauge_sink_lag_records", "Records behind.", ["sink", "topic", "partition"])

# How long the target takes for a batch.
WRITE_SECONDS = Histogram(
    "streamgauge_sink_write_seconds",
    "Time of one write.",
    ["sink", "topic"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)

# Writes and opens that met an outage and were tried again.
RETRIES = Counter("streamgauge_sink_retries_total", "Attempts that met an outage.", ["sink"])

# Somebody newer had the partition: a rebalance, or the same sink started twice.
FENCED = Counter("streamgauge_sink_fenced_total", "Writes refused by a fence.", ["sink"])

# The target had lost what it once took (fail-over, flushed Redis); it was read again.
REWOUND = Counter("streamgauge_sink_rewound_total", "Targets found older than known.", ["sink"])

# Records that could not be decoded: logged and left out (the archive keeps their bytes).
REJECTS = Counter("streamgauge_sink_rejects_total", "Undecodable records.", ["sink", "topic"])

# 1 while the target answers.
TARGET_UP = Gauge("streamgauge_sink_target_up", "Whether the target answers.", ["sink"])

# Requests to webhooks by outcome: delivered; again (it was away, or too busy); refused and given_up
# (kept as dead letters: alert when there are any); stale (more than a day old, not sent).
DELIVERIES = Counter(
    "streamgauge_webhook_deliveries_total",
    "Requests to webhooks.",
    ["webhook", "event", "outcome"],
)

# Materialised views refreshed on schedule by this process; others may have done so instead.
REFRESHES = Counter("streamgauge_views_refreshed_total", "Materialised views refreshed.")

# Looks at which refreshing failed: alert when it grows for longer than an interval.
REFRESH_FAILURES = Counter("streamgauge_views_failed_total", "Refreshes that failed.")

# How long one round over all views that were due took.
REFRESH_SECONDS = Histogram(
    "streamgauge_views_refresh_seconds",
    "Time of one round of refreshes.",
    buckets=(0.1, 0.5, 1, 5, 10, 30, 60, 300, 900),
)
