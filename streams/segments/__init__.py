"""Segments: who is in which, by rules over profiles.

Reading order: `conditions.py` (rules over columns), `evaluation.py` (who moves), `outputs.py` (what
is written), `membership.py` (state that comes back after a restart).
"""
