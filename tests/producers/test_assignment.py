import json
import subprocess
import sys
from collections import Counter
from hashlib import sha256
from pathlib import Path

import pytest

from streamgauge.producers import assignment
from streamgauge.producers.assignment import assign, bucket, decide, is_allocated, variant

VECTORS = json.loads((Path(__file__).parents[1] / "data" / "assignment.json").read_text("utf-8"))
HALVES = (("control", 0.5), ("treatment", 0.5))


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda c: f"{c['experiment']}/{c['user']}")
def test_golden_vectors(case):
    weights = [tuple(pair) for pair in case["weights"]]
    name, user = case["experiment"], case["user"]
    assert bucket(name, "allocation", user) == case["allocation_bucket"]
    assert bucket(name, "variant", user) == case["variant_bucket"]
    assert assign(name, user, weights, case["allocation"]) == case["variant"]


@pytest.mark.parametrize("case", VECTORS["targeting"], ids=str)
def test_golden_vectors_of_segments(case):
    weights = [tuple(pair) for pair in case["weights"]]
    given = {name: case[name] for name in ("segments", "user_segments", "exposed")}
    where = case["experiment"], case["user"], weights, case["allocation"]
    assert decide(*where, **given) == (case["variant"], case["reason"])
    assert assign(*where, **given) == case["variant"]


def test_a_bucket_is_the_first_53_bits_of_the_hash():
    bits = sha256(b"e/variant/u").digest()
    assert bucket("e", "variant", "u") * 2**53 == int.from_bytes(bits, "big") >> (256 - 53)


def test_a_raised_allocation_moves_nobody():
    users = [f"u{n}" for n in range(3000)]
    small, large = ({u: assign("e", u, HALVES, a) for u in users} for a in (0.2, 0.6))
    assert all(large[u] == given for u, given in small.items() if given)
    assert sum(map(bool, large.values())) / 3000 == pytest.approx(0.6, abs=0.03)


def test_shares_are_as_the_weights_say():
    weights = (("a", 1.0), ("b", 2.0), ("c", 0.0), ("d", 1.0))
    found = Counter(variant("e", f"u{n}", weights) for n in range(20_000))
    assert found["c"] == 0
    assert [found[v] / 20_000 for v in "abd"] == pytest.approx([0.25, 0.5, 0.25], abs=0.012)


def test_experiments_are_independent_of_each_other():
    users = [f"u{n}" for n in range(20_000)]
    both = Counter(variant("one", u, HALVES) == variant("two", u, HALVES) for u in users)
    assert both[True] / 20_000 == pytest.approx(0.5, abs=0.012)
    inside = [u for u in users if is_allocated("one", u, 0.3)]
    share = sum(variant("one", u, HALVES) == "control" for u in inside) / len(inside)
    assert share == pytest.approx(0.5, abs=0.02)


def test_nothing_heavy_is_imported():
    code = (
        "import sys, importlib.util as u; s = u.spec_from_file_location('a', sys.argv[1]);"
        "m = u.module_from_spec(s); s.loader.exec_module(m);"
        "assert not {'polars', 'numpy', 'pydantic', 'confluent_kafka'} & set(sys.modules)"
    )

    subprocess.run([sys.executable, "-c", code, assignment.__file__], check=True)
