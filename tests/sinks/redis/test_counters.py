"""Metric rows become hashes."""

import polars as pl

from streamgauge.sinks.redis.counters import counters, deletions, keys

NOON = 1_767_268_800_000
DAY = 86_400_000


def rows(*said: tuple[str, str | None, list[str | None], list[float | None]]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "partition": 0,
                "offset": i,
                "watermark": NOON + i,
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
    found = counters(
        rows(("1m", '{"p":"a"}', ["views", "time"], [1.0, 2.5]), ("1m", "{}", ["views"], [9.0]))
    )
    assert found[0].hashes == {
        (f"views:1m:{NOON}", NOON + 7_200_000): ['{"p":"a"}', "1.0", "{}", "9.0"],
        (f"time:1m:{NOON}", NOON + 7_200_000): ['{"p":"a"}', "2.5"],
    }
    assert found[0].watermark == NOON + 1


def test_what_has_no_value_or_no_window_sets_nothing() -> None:
    found = counters(rows(("1m", None, ["v"], [1.0]), ("1m", "{}", ["v", None], [None, 1.0])))
    assert found[0].hashes == {}
    assert found[0].watermark == NOON + 1


def test_each_partition_has_its_own() -> None:
    table = rows(("1m", "{}", ["v"], [1.0]), ("1m", "{}", ["v"], [2.0]))
    found = counters(table.with_columns(partition=pl.Series([3, 1])))
    assert {p: list(of.hashes.values()) for p, of in found.items()} == {
        3: [["{}", "1.0"]],
        1: [["{}", "2.0"]],
    }


def test_longer_windows_are_kept_longer() -> None:
    found = counters(rows(*((size, "{}", ["v"], [1.0]) for size in ("1m", "1h", "1d", "7d"))))
    assert [(e - NOON) / DAY for _, e in found[0].hashes] == [2 / 24, 2, 8, 8]


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
    assert deletions(tombstones) == {0: [b"1m", str(NOON).encode(), b'{"p":"x|y"}']}
