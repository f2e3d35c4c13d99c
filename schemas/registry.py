"""Schema registries: which schema an id stands for, and one place to add a new one.

Upstream: codecs and tools, with a URL from the settings. Downstream: a Confluent-compatible
registry (`http://`, `https://`), its in-process mock (`mock://name`), or a directory (`file:/dir`).

Invariants: an id means one schema for ever; nothing registers that could not read what is
already written under its subject; registering the same schema again gives the same id.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from streamgauge.schemas.compatibility import backward_problems
from streamgauge.schemas.derivation import Schema
from streamgauge.schemas.errors import IncompatibleSchema, RegistryError

_mocks: dict[str, Registry] = {}


class Registry(Protocol):
    """What everybody who needs schemas may ask."""

    def register(self, subject: str, schema: Schema) -> int:
        """The id of this schema under this subject, registered if it was not."""

    def schema(self, schema_id: int) -> Schema:
        """The schema of an id, or UnknownSchema."""

    def latest(self, subject: str) -> tuple[int, Schema] | None:
        """The subject's newest schema."""

    def subjects(self) -> list[str]:
        """Every subject, sorted."""


class CheckedRegistry(ABC):
    """What all kinds of registries do alike: remember, and check before they register."""

    def __init__(self) -> None:
        self._schemas: dict[int, Schema] = {}
        self._ids: dict[tuple[str, str], int] = {}

    def register(self, subject: str, schema: Schema) -> int:
        key = (subject, canonical(schema))
        schema_id = self._ids.get(key)
        if schema_id is None:
            schema_id = self._ids[key] = self._register(subject, schema)
        return schema_id

    def schema(self, schema_id: int) -> Schema:
        schema = self._schemas.get(schema_id)
        if schema is None:
            schema = self._schemas[schema_id] = self._fetch(schema_id)
        return schema

    @abstractmethod
    def latest(self, subject: str) -> tuple[int, Schema] | None: ...

    @abstractmethod
    def subjects(self) -> list[str]: ...

    @abstractmethod
    def _register(self, subject: str, schema: Schema) -> int:
        """Register a schema that this process has not registered yet."""

    @abstractmethod
    def _fetch(self, schema_id: int) -> Schema:
        """Look an id up, or raise UnknownSchema."""

    def _check(self, subject: str, schema: Schema) -> None:
        latest = self.latest(subject)
        problems = backward_problems(schema, latest[1]) if latest else []
        if problems:
            raise IncompatibleSchema(subject, problems)


def canonical(schema: Schema) -> str:
    """A schema as one line of JSON, the same for the same schema."""
    return json.dumps(schema, separators=(",", ":"), sort_keys=True)


def open_registry(url: str, options: Mapping[str, Any] | None = None) -> Registry:
    """The registry at a URL.

    `options` go to confluent-kafka's client: `basic.auth.user.info` (`user:password`),
    `ssl.ca.location`, `ssl.certificate.location`, `ssl.key.location`, `timeout` …
    """
    scheme = urlsplit(url).scheme
    if scheme == "file":
        from streamgauge.schemas.registry_file import FileRegistry

        return FileRegistry(Path(unquote(urlsplit(url).path)))
    if scheme not in ("http", "https", "mock"):
        raise RegistryError(
            f"{url} is no registry: use http(s)://HOST:PORT, file:/DIRECTORY or mock://NAME"
        )
    from streamgauge.schemas.registry_confluent import ConfluentRegistry

    if scheme == "mock":  # shared by all who name it, as a real one would be
        if url not in _mocks:
            _mocks[url] = ConfluentRegistry(url, options or {})
        return _mocks[url]
    return ConfluentRegistry(url, options or {})
