"""The compose file: valid by its schema, healthy before others depend on it, and only ours."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from streamgauge.cli import main

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.kafka.yml"


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    return services


def test_it_is_valid_by_the_compose_schema() -> None:
    # The schema that the package vendors; its own command line is not needed.
    package = importlib.util.find_spec("check_jsonschema")
    assert package is not None and package.origin is not None
    schema = Path(package.origin).parent / "builtin_schemas" / "vendor" / "compose-spec.json"
    jsonschema.validate(yaml.safe_load(COMPOSE.read_text()), json.loads(schema.read_text()))


def test_every_server_says_whether_it_is_healthy(services: dict[str, Any]) -> None:
    for name, service in services.items():
        if name != "topics":  # ends by itself
            assert service["healthcheck"]["test"], name


def test_whatever_is_depended_on_exists_with_that_condition(services: dict[str, Any]) -> None:
    for name, service in services.items():
        for other, wait in service.get("depends_on", {}).items():
            ends = services[other].get("restart") == "no"
            expected = "service_completed_successfully" if ends else "service_healthy"
            assert wait["condition"] == expected, (name, other)


def test_nothing_listens_beyond_this_machine(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_our_own_commands_take_the_flags_they_are_given(services: dict[str, Any]) -> None:
    for service in services.values():
        if service["image"] == "streamgauge":
            help_text = CliRunner().invoke(main, [*service["command"], "--help"])
            assert help_text.exit_code == 0, help_text.output
