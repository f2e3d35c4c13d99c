"""`schemas`: listing, showing, and refusing what readers could not read."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import Result

from streamgauge.schemas.derivation import avro_schema
from streamgauge.schemas.envelope import COLUMNS
from streamgauge.schemas.events import EVENT_TYPES
from streamgauge.schemas.registry import canonical, open_registry

Run = Callable[..., Result]


def test_types_of_ones_own_are_listed_beside_ours(run: Run, tmp_path: Path) -> None:
    (tmp_path / "shop_events.py").write_text(
        "from streamgauge.schemas.events import Event\n"
        "from typing import Literal\n"
        "class Checkout(Event):\n"
        "    event_type: Literal['checkout'] = 'checkout'\n"
        "    total: float | None = None\n"
    )
    try:
        lines = run("schemas", "list", "--json", "--event-modules", "shop_events").output
        rows = {row["name"]: row for row in map(json.loads, lines.splitlines())}
        assert rows["checkout"]["subject"] == "events-streamgauge.Checkout"
        assert rows["DeadLetter"]["topic"] == "dead-letters"
        shown = json.loads(run("schemas", "show", "checkout").output)
        assert shown["fields"][-1]["name"] == "total"
    finally:
        EVENT_TYPES.pop("checkout", None)


def test_an_unknown_name_or_module_is_told(run: Run) -> None:
    assert "there are button_click" in run("schemas", "show", "nothing", exit_code=2).output
    missing = run("schemas", "list", "--event-modules", "no_such_module", exit_code=1)
    assert "no module no_such_module" in missing.output


def test_check_fails_where_readers_would_and_register_refuses(run: Run, registry_url: str) -> None:
    address = ("--registry", registry_url)
    assert "not registered" in run("schemas", "check", *address).output
    registered = run("schemas", "register", *address).output
    assert "events-streamgauge.PageView" in registered
    assert "not registered" not in run("schemas", "check", *address).output

    older = json.loads(canonical(avro_schema(EVENT_TYPES["search"])))
    older["fields"][-1] = {"name": older["fields"][-1]["name"], "type": "bytes"}
    open_registry(registry_url + "2").register("events-streamgauge.Search", older)
    result = run("schemas", "check", "--registry", registry_url + "2", exit_code=1)
    (row,) = [line for line in result.output.splitlines() if line.startswith("search ")]
    assert "False" in row


@pytest.fixture
def checkout(tmp_path: Path, registry_url: str) -> Iterator[Callable[..., Path]]:
    """Writes versions of an event type of one's own; nothing of it is left afterwards."""

    def write(**fields: str) -> Path:
        EVENT_TYPES.pop("checkout", None)
        for name in ("total", "coupon"):
            COLUMNS.pop(name, None)
        file = tmp_path / "checkout.avsc"
        listed = [{"name": name, "type": ["null", kind]} for name, kind in fields.items()]
        file.write_text(json.dumps({"type": "record", "name": "Checkout", "fields": listed}))
        return file

    yield write
    write()


def test_a_type_in_a_file_is_registered_compared_and_refused_with_its_field(
    run: Run, registry_url: str, checkout: Callable[..., Path]
) -> None:
    address = ("--registry", registry_url)
    run("schemas", "register", str(checkout(total="double")), *address)
    newer = str(checkout(total="double", coupon="string"))
    (row,) = map(json.loads, run("schemas", "diff", newer, *address, "--json").output.splitlines())
    assert (row["name"], row["field"], row["change"]) == ("checkout", "coupon", "added")
    assert row["breaks"] is None
    checkout(total="double", coupon="string")
    run("schemas", "register", newer, *address)

    broken = str(checkout(total="string", coupon="string"))
    for command in ("check", "register"):
        checkout(total="string", coupon="string")
        refused = run("schemas", command, broken, *address, exit_code=1)
        assert "total: double was written" in refused.output
    checkout(total="string", coupon="string")
    shown = run("schemas", "diff", broken, *address).output
    assert "double was written, none of [null, string] reads it" in shown
    _, schema = open_registry(registry_url).latest("events-streamgauge.Checkout") or (0, {})
    assert {"name": "total", "type": ["null", "double"], "default": None} in schema["fields"]


def test_register_is_all_or_nothing(
    run: Run, registry_url: str, checkout: Callable[..., Path]
) -> None:
    total = {"name": "total", "type": "double", "default": 0}
    old = {"type": "record", "name": "Checkout", "namespace": "streamgauge", "fields": [total]}
    open_registry(registry_url).register("events-streamgauge.Checkout", old)
    file = str(checkout(total="string"))
    run("schemas", "register", file, "--registry", registry_url, exit_code=1)
    assert open_registry(registry_url).subjects() == ["events-streamgauge.Checkout"]


def test_without_a_difference_it_says_so(run: Run, registry_url: str) -> None:
    assert "not registered" in run("schemas", "diff", "--registry", registry_url).output
    run("schemas", "register", "--registry", registry_url)
    same = run("schemas", "diff", "--registry", registry_url).output
    assert same == "All schemas are as registered.\n"


def test_docs_are_yaml_json_or_a_file(run: Run, tmp_path: Path) -> None:
    told = yaml.safe_load(run("schemas", "docs", "--namespace", "shop").output)
    assert told["channels"]["events"]["address"] == "shop.events"
    as_json = json.loads(run("schemas", "docs", "--partitions", "6", "--json").output)
    assert as_json["channels"]["events"]["bindings"]["kafka"]["partitions"] == 6
    run("schemas", "docs", "--out", "asyncapi.yaml")
    assert yaml.safe_load((tmp_path / "asyncapi.yaml").read_text())["asyncapi"] == "3.0.0"
