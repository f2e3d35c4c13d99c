"""Faults on a scratch stack by a schedule made from a seed, and proof that nothing came of them."""
