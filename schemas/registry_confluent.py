"""A Confluent-compatible registry, through confluent-kafka's own client.

Upstream: `open_registry("https://…")`, or `mock://name` for the client's in-process mock.
Needs the extra `registry`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from streamgauge.schemas.derivation import Schema
from streamgauge.schemas.errors import (
    IncompatibleSchema,
    RegistryError,
    SchemaError,
    UnknownSchema,
)
from streamgauge.schemas.registry import CheckedRegistry, canonical

try:
    from confluent_kafka.schema_registry import Schema as RegisteredSchema
    from confluent_kafka.schema_registry import SchemaRegistryClient
    from confluent_kafka.schema_registry.error import SchemaRegistryError
except ImportError as missing:
    raise RegistryError(
        "a schema registry by URL needs more packages: pip install 'streamgauge[registry]'"
        f" ({missing}); or use a directory: file:/DIRECTORY"
    ) from missing

T = TypeVar("T")

DEFAULTS = {"timeout": 10, "retries.wait.ms": 200, "retries.max.wait.ms": 2000}
NO_SUCH_THING = range(40400, 40500)
"""Error codes for a subject, version or schema that there is not; a mere 404 is a wrong address."""
CONFLICT = 409
INVALID_SCHEMA = 42201

HINTS = {
    401: "; check basic.auth.user.info",
    403: "; this user may not",
    404: "; is this the address of a registry, with its path?",
}


class ConfluentRegistry(CheckedRegistry):
    """The registry of a Confluent platform, Redpanda, Apicurio, Karapace …"""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        super().__init__()
        self._url = url
        try:
            self._client = SchemaRegistryClient.new_client(DEFAULTS | dict(options) | {"url": url})
        except (ValueError, TypeError, OSError) as error:
            raise RegistryError(f"cannot use the registry {url}: {error}") from error

    def latest(self, subject: str) -> tuple[int, Schema] | None:
        found = self._ask(self._client.get_latest_version, subject)
        return (int(found.schema_id or 0), _avro(found.schema)) if found else None

    def subjects(self) -> list[str]:
        return sorted(self._ask(self._client.get_subjects) or [])

    def _register(self, subject: str, schema: Schema) -> int:
        wanted = RegisteredSchema(canonical(schema), "AVRO")
        known = self._ask(self._client.lookup_schema, subject, wanted)
        if known and known.schema_id:
            return known.schema_id
        self._check(subject, schema)
        schema_id = self._ask(self._client.register_schema, subject, wanted)
        if schema_id is None:
            raise RegistryError(f"{self._url} refuses the subject {subject}")
        return int(schema_id)

    def _fetch(self, schema_id: int) -> Schema:
        found = self._ask(self._client.get_schema, schema_id)
        if found is None:
            raise UnknownSchema(f"no schema has the id {schema_id} in {self._url}")
        return _avro(found)

    def _ask(self, question: Callable[..., T], *arguments: Any) -> T | None:
        """The client's answer; None when there is no such thing."""
        try:
            return question(*arguments)
        except SchemaRegistryError as error:
            status = error.http_status_code
            if error.error_code in NO_SUCH_THING:
                return None
            if status == CONFLICT:  # stricter than BACKWARD, or somebody was faster
                raise IncompatibleSchema(str(arguments[0]), [str(error.error_message)]) from error
            if error.error_code == INVALID_SCHEMA:
                raise SchemaError(f"{self._url} takes it for no schema: {error}") from error
            hint = HINTS.get(status, "")
            raise RegistryError(
                f"{self._url}: {error}{hint}", retryable=status >= 500 or status in (408, 429)
            ) from error
        except Exception as error:  # the HTTP library's own, whichever it is
            raise RegistryError(
                f"{self._url} does not answer: {type(error).__name__}: {error}", retryable=True
            ) from error


def _avro(schema: Any) -> Schema:
    if (schema.schema_type or "AVRO") != "AVRO":
        raise SchemaError(f"a schema of type {schema.schema_type}: only Avro is read here")
    parsed: Schema = json.loads(schema.schema_str)
    return parsed
