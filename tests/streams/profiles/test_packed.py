"""Rows at rest come back as they were."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamgauge.streams.profiles import rows as profile
from streamgauge.streams.profiles.packed import Packed


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.sampled_from([0, 1, 3, 2050]), max_size=3))
def test_what_comes_back_is_what_was_put_in_to_the_last_bit(seed: int, sizes: list[int]) -> None:
    rng = np.random.default_rng(seed)
    parts = [profile.empty(size) for size in [2, *sizes]]
    for rows in parts:
        raw = profile.raw(rows)
        raw[rng.random(raw.shape) < 0.1] = 255
        raw[:1] = rng.integers(0, 256, raw[:1].shape)  # no word as in an empty row
    rows = np.concatenate(parts)
    packed = Packed.together([Packed.of(part) for part in parts])
    places = rng.permutation(len(rows))
    assert packed.rows(places).tobytes() == rows[places].tobytes()
    for name in ("slot", "partition", "last_seen", "last_day", "mask"):
        assert packed.field(name).tobytes() == rows[name].tobytes()
    live = rng.random(len(rows)) < 0.5
    kept = packed.only(live)
    assert kept.rows(np.arange(len(kept))).tobytes() == rows[live].tobytes()
