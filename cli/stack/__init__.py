"""The servers and processes one command can bring up on a machine with Python alone.

Upstream: `cli/demo.py`, `cli/up.py` and the tests ask for a stack. Downstream: brokers,
Postgres, Redis and child processes, every one of which ends with the process that started it.
"""
