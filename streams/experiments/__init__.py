"""What an experiment's figures say: lift, intervals, and whether the split can be trusted.

Everything works on sufficient statistics (`moments.py`), never on users, so that a file and a
stream give the same answer by the same code. Reading order: `moments.py`, `effect.py` (the lift
of one variant: means, ratios, CUPED), `distributions.py`, `fixed.py` and `sequential.py` (its
intervals), `srm.py`, `multiplicity.py`, `analysis.py` (all of it for an experiment), `power.py`
(before the start), `users.py` (from one row a user to moments).
"""
