"""One suite for every kind of registry, and what is particular to each."""

from __future__ import annotations

import json
import multiprocessing
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streamgauge.schemas.errors import (
    IncompatibleSchema,
    RegistryError,
    SchemaError,
    UnknownSchema,
)
from streamgauge.schemas.registry import Registry, canonical, open_registry

Open = Callable[[], Registry]


def record(name: str = "R", *fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": name, "namespace": "n", "fields": list(fields)}


X = {"name": "x", "type": "int"}
NEW = {"name": "new", "type": ["null", "string"], "default": None}
REQUIRED = {"name": "required", "type": "string"}


class TestEveryRegistry:
    def test_an_id_gives_back_its_schema(self, make_registry: Open) -> None:
        schema_id = make_registry().register("s", record("R", X))
        assert make_registry().schema(schema_id) == record("R", X)

    def test_the_same_schema_again_has_the_same_id(self, make_registry: Open) -> None:
        registry = make_registry()
        first = registry.register("s", record("R", X))
        assert registry.register("s", record("R", X)) == first
        assert make_registry().register("s", record("R", X)) == first

    def test_ids_count_up_in_the_order_of_registration(self, make_registry: Open) -> None:
        ids = [make_registry().register(f"s{i}", record(f"R{i}")) for i in range(3)]
        assert ids == [1, 2, 3]

    def test_latest_is_the_newest_of_its_subject(self, make_registry: Open) -> None:
        registry = make_registry()
        assert registry.latest("s") is None
        registry.register("s", record("R", X))
        newer = registry.register("s", record("R", X, NEW))
        registry.register("other", record("Q"))
        assert make_registry().latest("s") == (newer, record("R", X, NEW))

    def test_subjects_are_sorted(self, make_registry: Open) -> None:
        registry = make_registry()
        assert registry.subjects() == []
        for subject in ("b", "a", "b"):
            registry.register(subject, record())
        assert make_registry().subjects() == ["a", "b"]

    def test_what_readers_could_not_read_does_not_register(self, make_registry: Open) -> None:
        registry = make_registry()
        registry.register("s", record("R", X))
        with pytest.raises(IncompatibleSchema, match="required: new, and without a default") as bad:
            registry.register("s", record("R", X, REQUIRED))
        assert bad.value.problems == ("required: new, and without a default",)
        assert registry.latest("s") == (1, record("R", X))

    def test_an_older_version_may_come_again(self, make_registry: Open) -> None:
        registry = make_registry()
        old = registry.register("s", record("R", X, REQUIRED))
        registry.register("s", record("R", X))
        assert make_registry().register("s", record("R", X, REQUIRED)) == old

    def test_an_unknown_id_is_said_to_be_unknown(self, make_registry: Open) -> None:
        with pytest.raises(UnknownSchema, match="99"):
            make_registry().schema(99)


def test_a_url_of_no_kind_is_refused() -> None:
    with pytest.raises(RegistryError, match="use http"):
        open_registry("localhost:8081")


class TestFile:
    def test_equal_schemas_share_an_id_under_all_subjects(self, registry: Registry) -> None:
        assert registry.register("a", record()) == registry.register("b", record()) == 1

    def test_the_file_is_readable_json(self, tmp_path: Path) -> None:
        open_registry(f"file:{tmp_path}").register("s", record())
        (version,) = json.loads((tmp_path / "registry.json").read_text())
        assert version == {"id": 1, "subject": "s", "schema": record()}

    def test_processes_share_a_directory(self, tmp_path: Path) -> None:
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            ids = pool.map(_register_some, [(str(tmp_path), start) for start in (0, 5)])
        registry = open_registry(f"file:{tmp_path}")
        assert len(registry.subjects()) == 15
        assert sorted({i for some in ids for i in some}) == list(range(1, 16))
        assert ids[0][5:] == ids[1][:5]  # the ones that both registered

    def test_a_broken_file_or_directory_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "registry.json").write_text("{")
        with pytest.raises(RegistryError, match=r"cannot read .*registry\.json"):
            open_registry(f"file:{tmp_path}").subjects()
        with pytest.raises(RegistryError, match="cannot use"):
            open_registry(f"file:{tmp_path / 'registry.json'}")

    def test_a_full_disk_is_said(self, tmp_path: Path) -> None:
        registry = open_registry(f"file:{tmp_path}")
        (tmp_path / "registry.tmp").mkdir()
        with pytest.raises(RegistryError, match="cannot write"):
            registry.register("s", record())


def _register_some(task: tuple[str, int]) -> list[int]:
    directory, start = task
    registry = open_registry(f"file:{directory}")
    return [registry.register(f"s{i}", record(f"R{i}")) for i in range(start, start + 10)]


QUICK = {"max.retries": 0}


class TestConfluentsProtocol:
    """What goes over the wire, and what is made of each answer."""

    def test_a_schema_is_looked_up_checked_and_registered(self, registry_server: Any) -> None:
        registry = open_registry(registry_server.url)
        registry.register("events-n.R", record("R", X))
        lookup, latest, register = registry_server.asked
        assert lookup.startswith("POST /subjects/events-n.R?")
        assert latest.startswith("GET /subjects/events-n.R/versions/latest")
        assert register.startswith("POST /subjects/events-n.R/versions")

    def test_a_subject_is_escaped(self, registry_server: Any) -> None:
        open_registry(registry_server.url).register("a/b c", record("R", X))
        assert open_registry(registry_server.url).subjects() == ["a/b c"]
        assert any("/subjects/a%2Fb%20c" in path for path in registry_server.asked)

    def test_what_the_registry_finds_incompatible_is_said_in_its_words(
        self, registry_server: Any
    ) -> None:
        registry_server.refuse = "{errorType:'READER_FIELD_MISSING_DEFAULT_VALUE', field x}"
        with pytest.raises(IncompatibleSchema, match="READER_FIELD_MISSING_DEFAULT_VALUE"):
            open_registry(registry_server.url).register("s", record("R", X))
        assert registry_server.versions == []

    def test_what_is_no_schema_is_said(self, registry_server: Any) -> None:
        with pytest.raises(SchemaError, match="takes it for no schema"):
            open_registry(registry_server.url).register("s", record("R", {"name": "x"}))

    @pytest.mark.parametrize(
        ("code", "nothing"), [(40401, True), (40402, True), (40403, True), (404, False)]
    )
    def test_only_a_registrys_404_means_that_there_is_no_such_thing(
        self, registry_server: Any, code: int, nothing: bool
    ) -> None:
        registry_server.answer = lambda *_: (404, {"error_code": code, "message": "not found"})
        registry = open_registry(registry_server.url, QUICK)
        if nothing:
            assert registry.latest("s") is None
        else:
            with pytest.raises(RegistryError, match="is this the address of a registry"):
                registry.latest("s")


class TestConfluent:
    def test_each_id_is_fetched_once(self, registry_server: Any) -> None:
        registry_server.versions.append(("s", canonical(record())))
        registry = open_registry(registry_server.url)
        assert [registry.schema(1) for _ in range(3)] == [record()] * 3
        assert registry_server.requests == 1

    def test_user_and_password_are_sent(self, registry_server: Any) -> None:
        options = {"basic.auth.user.info": "me:secret"}
        open_registry(registry_server.url, options).subjects()
        assert registry_server.authorization == "Basic bWU6c2VjcmV0"

    @pytest.mark.parametrize(
        ("status", "retryable", "message"),
        [(401, False, "check basic.auth.user.info"), (403, False, "may not"), (503, True, "told")],
    )
    def test_refusals_say_what_to_do(
        self, registry_server: Any, status: int, retryable: bool, message: str
    ) -> None:
        registry_server.fail_with = status
        with pytest.raises(RegistryError, match=message) as refused:
            open_registry(registry_server.url, QUICK).subjects()
        assert refused.value.retryable is retryable

    def test_an_address_where_nobody_answers_may_be_tried_again(self) -> None:
        with pytest.raises(RegistryError, match="does not answer") as refused:
            open_registry("http://127.0.0.1:1", QUICK).schema(1)
        assert refused.value.retryable

    def test_wrong_options_are_named(self) -> None:
        with pytest.raises(RegistryError, match=r"no\.such\.option"):
            open_registry("mock://options", {"no.such.option": "x"})

    def test_only_avro_is_read(self, registry_server: Any) -> None:
        registry_server.answer = lambda *_: (200, {"schema": "x", "schemaType": "PROTOBUF"})
        with pytest.raises(SchemaError, match="PROTOBUF"):
            open_registry(registry_server.url).schema(1)

    def test_without_its_packages_it_says_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delitem(sys.modules, "streamgauge.schemas.registry_confluent", raising=False)
        monkeypatch.setitem(sys.modules, "confluent_kafka.schema_registry", None)
        with pytest.raises(RegistryError, match=r"pip install 'streamgauge\[registry\]'"):
            open_registry("http://127.0.0.1:1")
