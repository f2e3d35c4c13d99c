"""What an experiment's figures say: lift, intervals, and whether the split can be trusted.

Statistics work on sufficient statistics (`moments.py`), never on users, so that a file and a stream
give the same answer by the same code. Reading order: `plan.py` (what was decided before),
`users.py` and `moments.py` (from one row a user to what is kept of it), `effect.py` (the lift of
one variant: means, ratios, CUPED), `distributions.py`, `fixed.py` and `sequential.py` (its
intervals), `srm.py`, `multiplicity.py`, `power.py` and `progress.py` (users needed, users to go),
`analysis.py` (all of it).

In the stream: `in_force.py` (which experiments there are), `observer.py` (what they read of
events), `state.py`, `exposures.py` and `counting.py` (who was exposed, and what they did),
`tally.py` (exact sums over users), `saving.py` and `restoring.py` (changelogs), `results.py` (all
source partitions together); `branch.py` and `tasks.py` are the shells.
"""
