"""Bodies: JSON within limits, or a refusal, whatever the bytes are."""

import gzip
import json
import time
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamgauge.serving.collector.body import check_headers, fits, inflate, parse
from streamgauge.serving.collector.errors import Refusal

MOST = 1 << 20


@given(data=st.binary(max_size=2000))
def test_gzip_comes_back(data: bytes) -> None:
    assert inflate(gzip.compress(data), MOST) == data
    assert inflate(gzip.compress(data) + gzip.compress(data), MOST) == data * 2


@given(data=st.binary(max_size=300))
def test_whatever_else_is_refused(data: bytes) -> None:
    packed = gzip.compress(b"x" * 1000)
    for wrong in (data + b"\x1f", packed[: len(packed) // 2], packed + data + b"!"):
        with pytest.raises(Refusal) as refused:
            inflate(wrong, MOST)
        assert refused.value.code == "gzip"


def test_a_bomb_costs_no_more_than_the_limit() -> None:
    stream = zlib.compressobj(9, wbits=31)
    bomb = b"".join(stream.compress(bytes(1 << 20)) for _ in range(200)) + stream.flush()
    began = time.process_time()
    with pytest.raises(Refusal) as refused:
        inflate(bomb, MOST)
    assert refused.value.status == 413
    assert time.process_time() - began < 0.5
    with pytest.raises(Refusal, match="members"):
        inflate(gzip.compress(b"") * 10_000, MOST)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"{'a': 1}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'["\\ud800",' + b"[" * 100_000,
        b"NaN",
        b'["\\u0000", NaN]',
        b'["\\u0000", ' + b"9" * 5000 + b"]",
        '{"a": "ü"}'.encode("latin-1"),
        '{"a": "ü"}'.encode("utf-16"),
        b'\xef\xbb\xbf{"a": "\\u0041"',
    ],
)
def test_what_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        parse(data, 100)
    assert refused.value.code == "not_json"


def test_more_values_than_allowed_are_refused_unread() -> None:
    with pytest.raises(Refusal) as refused:
        parse(b"[" + b"1," * 101, 100)
    assert refused.value.code == "too_many"


def test_half_a_surrogate_pair_does_not_cost_the_whole_batch() -> None:
    data = b'{"batch": [{"title": "cut \\ud83d"}, {"title": "whole \\ud83d\\ude00"}]}'
    found = parse(data, 100)
    assert found["batch"][1]["title"] == "whole 😀"


@given(
    value=st.recursive(st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_depth_and_items_are_counted(value: Any) -> None:
    def nests(value: Any) -> bool:
        return isinstance(value, dict | list)

    def inner(value: Any) -> list[Any]:
        return list(value.values()) if isinstance(value, dict) else value

    def depth(value: Any) -> int:
        return 1 + max(map(depth, inner(value)), default=0) if nests(value) else 0

    def items(value: Any) -> int:
        return len(value) + sum(map(items, inner(value))) if nests(value) else 0

    event = json.loads(json.dumps({"a": value}))
    for most in range(1, 8):
        assert fits(event, most, 10**6) == (depth(event) <= most)
        assert fits(event, 100, most) == (items(event) <= most)


@pytest.mark.parametrize(
    ("content_type", "encoding", "gzipped"),
    [
        ("application/json", "", False),
        ("application/json; charset=UTF-8", "gzip", True),
        ("text/plain;charset=utf-8", "identity", False),
        ("", "GZIP", True),
    ],
)
def test_kinds_that_are_taken(content_type: str, encoding: str, gzipped: bool) -> None:
    assert check_headers(content_type, encoding) is gzipped


@pytest.mark.parametrize(
    ("content_type", "encoding"),
    [
        ("application/x-www-form-urlencoded", ""),
        ("application/json; charset=utf-16", ""),
        ("application/json", "br"),
        ("application/json", "gzip, gzip"),
    ],
)
def test_kinds_that_are_not(content_type: str, encoding: str) -> None:
    with pytest.raises(Refusal) as refused:
        check_headers(content_type, encoding)
    assert refused.value.status == 415
