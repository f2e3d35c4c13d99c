"""Sessions of users, and of users' devices, from accepted events.

Reading order: `splitting.py` (where one session ends and the next begins), `spans.py` (what is
kept of events), `sessions.py` (the state, and what is told of it).
"""
