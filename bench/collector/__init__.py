"""B6: the collector under load, by clients in a process of their own."""
