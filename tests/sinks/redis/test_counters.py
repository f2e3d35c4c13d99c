"""Metric rows become hashes."""

import polars as pl

from streamgauge.sinks.redis.counters import deletions, hashes, keys

NOON = 1_767_268_800_000
DAY = 86_400_000


def rows(*said: tuple[str, str, list[str], list[float]]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "partition": 0,
                "offset": i,
                "window_start": NOON,
                "window_size": size,
                "dimensions": dimensions,
                "metrics": metrics,
                "values": values,
            }
            for i, (size, dimensions, metrics, values) in enumerate(said)
        ]
    )


def test_a_hash_is_a_metric_and_a_window_and_a_field_is_a_set_of_dimensions() -> None:
    found = hashes(
        rows(("1m", '{"p":"a"}', ["views", "time"], [1.0, 2.5]), ("1m", "{}", ["views"], [9.0]))
    )
    assert found.rows() == [
        (f"views:1m:{NOON}", NOON + 7_200_000, ['{"p":"a"}', "{}"], [1.0, 9.0]),
        (f"time:1m:{NOON}", NOON + 7_200_000, ['{"p":"a"}'], [2.5]),
    ]


def test_longer_windows_are_kept_longer() -> None:
    found = hashes(rows(*((size, "{}", ["v"], [1.0]) for size in ("1m", "1h", "1d", "7d"))))
    assert [(e - NOON) / DAY for e in found["expires"]] == [2 / 24, 2, 8, 8]


def test_keys_share_the_hash_tag_of_their_partition() -> None:
    at = keys("", 3)
    assert at.prefix == "sg:{metrics-3}:"
    assert at.fence == "sg:{metrics-3}:fence"
    assert keys("ns", 3).prefix == "ns:{metrics-3}:"
    # Readers scan for `…}:*`: what only the sink needs must not be in their way.
    assert not at.expiry.startswith(at.prefix)
    assert not at.names.startswith(at.prefix)


def test_a_tombstone_tells_the_window_and_the_field() -> None:
    key = f'1m|{NOON}|abcdef01|{{"p":"x|y"}}'.encode()
    tombstones = pl.DataFrame({"partition": [0, 0], "offset": [1, 2], "key": [key, b"odd"]})
    assert deletions(tombstones).rows() == [("1m", str(NOON), '{"p":"x|y"}')]
