"""Flags and ended experiments to the addresses of other people, by HTTP."""
