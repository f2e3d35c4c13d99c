"""Every Prometheus metric of the engine, in one place.

Labels: `topic` is the unqualified name. All of them are per process.
"""

from prometheus_client import Counter, Gauge, Histogram

#: Records read, by topic.
RECORDS_IN = Counter("streamgauge_records_in", "Records read", ["topic"])
#: Bytes of the values read, by topic.
#: Rows written in transactions, by topic.
RECORDS_OUT = Counter("streamgauge_records_out", "Rows written", ["topic"])
#: Records that nobody could decode or process, by reason.
REJECTED = Counter("streamgauge_rejected", "Records sent to the dead letters", ["reason"])
#: Records that retention deleted before they were read, by topic.
DELETED_UNREAD = Counter("streamgauge_deleted_unread", "Records deleted before read", ["topic"])
#: Events by what became of them: accepted, late, duplicate, future.
EVENTS = Counter("streamgauge_events", "Events by fate", ["fate"])
#: Records between the position and the end, by partition.
LAG = Gauge("streamgauge_lag_records", "Records not yet read", ["topic", "partition"])
#: Barriers committed.
COMMITS = Counter("streamgauge_commits", "Transactions committed")
#: Transactions rolled back, by cause: broker, agent, rebalance.
ABORTED = Counter("streamgauge_aborted", "Transactions rolled back", ["cause"])
#: Seconds from the barrier's start to the commit's end.
COMMIT_SECONDS = Histogram(
    "streamgauge_commit_seconds",
    "Time of a barrier commit",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
#: Seconds that the last restore took.
RESTORE_SECONDS = Gauge("streamgauge_restore_seconds", "Time of the last restore")
#: Rows read by the last restore.
RESTORE_ROWS = Gauge("streamgauge_restore_rows", "Rows read by the last restore")
#: Rebalances seen.
REBALANCES = Counter("streamgauge_rebalances", "Assignments received")
#: Partitions owned now.
ASSIGNED = Gauge("streamgauge_assigned_partitions", "Partitions owned")
