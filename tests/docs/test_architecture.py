"""The documents name what exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("document", ["ARCHITECTURE.md", "README.md"])
def test_every_path_it_names_exists(document):
    text = (ROOT / document).read_text()
    named = set(re.findall(r"`((?:[a-z_.-]+/)+[a-z_.-]*)`", text))
    named |= set(re.findall(r"\]\(([^)#:]+)\)", text))
    assert named
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []
