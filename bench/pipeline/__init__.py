"""Benchmarks of the product itself: its own worker and sinks, as processes, on real servers."""
