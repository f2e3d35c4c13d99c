"""`schemas`: listing, showing, and refusing what readers could not read."""

import json
from collections.abc import Callable
from pathlib import Path

from click.testing import Result

from streamgauge.schemas.derivation import avro_schema
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
