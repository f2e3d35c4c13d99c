"""Profiles of users, from accepted events and final sessions.

Reading order: `rows.py` (a profile as a row, and how two of them add up), `tags.py` (what is
counted by name), `digest.py` (a batch of events as profiles), `table.py` and `profiles.py` (the
state), `figures.py` (what follows from a profile), `parts.py` and `outputs.py` (profiles as bytes
and as records), `feed.py` (who is written when, and what a restart gives back).
"""
