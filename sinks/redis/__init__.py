"""The Redis sink: the hot counters, one hash a metric and window."""
