"""docs/sdk.md names tests that exist, and says the defaults that are."""

import inspect
import re
from pathlib import Path

import pytest

from streamgauge.producers import Client

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "sdk.md").read_text()
NAMED = sorted(set(re.findall(r"(?:tests/producers/)?(test_\w+\.py|…)::(test_\w+)", TEXT)))


@pytest.mark.parametrize("test", [test for _, test in NAMED])
def test_a_test_that_the_page_names_exists(test):
    tests = "".join(file.read_text() for file in Path(__file__).parent.glob("test_*.py"))
    assert f"def {test}(" in tests


def test_every_setting_of_the_page_is_one_of_the_client():
    settings = inspect.signature(Client).parameters
    named = set(re.findall(r"`(\w+)`(?:,|\s\|)", TEXT.split("## When the receiver")[1]))
    given = set(re.findall(r"Client\(.*?(\w+)=", TEXT)) | set(re.findall(r"`(\w+)=", TEXT))
    assert given - {"event_id"} <= set(settings)
    assert {"max_events", "when_full", "spool_dir"} <= named & set(settings)
    assert settings["max_events"].default == 10_000
    assert settings["max_bytes"].default == 32 << 20
    assert settings["spool_bytes"].default == 256 << 20
    assert (settings["timeout_s"].default, settings["exit_s"].default) == (10, 10)
