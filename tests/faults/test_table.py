"""The table of faults names tests and bugs that exist."""

import re
from pathlib import Path

import pytest

from tests.faults.planted import BUGS

ROOT = Path(__file__).parents[2]
TABLE = Path(__file__).with_name("README.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[a-z_/]+\.py)::(test_\w+)`", TABLE)))


@pytest.mark.parametrize(("path", "test"), NAMED, ids=[test for _, test in NAMED])
def test_a_test_that_it_names_exists(path, test):
    assert f"def {test}(" in (ROOT / path).read_text()


def test_every_test_of_this_folder_is_in_it():
    tests = {
        (str(file.relative_to(ROOT)), test)
        for file in Path(__file__).parent.glob("test_*.py")
        if file.name not in ("test_table.py", "test_planted.py")
        for test in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)
    }
    assert tests - set(NAMED) == set()


def test_every_planted_bug_is_in_it():
    assert set(re.findall(r"^\| `(\w+)` \|", TABLE, re.MULTILINE)) == set(BUGS) - {"none"}
