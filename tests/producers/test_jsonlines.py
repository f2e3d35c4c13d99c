import pytest

from streamgauge.producers.jsonlines import parse_line
from streamgauge.schemas.errors import InvalidEvent


def test_a_line_is_an_object():
    assert parse_line('{"event_type": "search", "n": 1}') == {"event_type": "search", "n": 1}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "bad_json"),
        ("", "bad_json"),
        ("{} {}", "bad_json"),
        ("[" * 100_000, "bad_json"),
        ("[1]", "not_an_object"),
        ("null", "not_an_object"),
        ('"text"', "not_an_object"),
    ],
)
def test_anything_else_is_refused_with_a_reason(line, reason):
    with pytest.raises(InvalidEvent) as refused:
        parse_line(line)
    assert refused.value.reason == reason
