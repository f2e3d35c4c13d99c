"""A schema registry in a directory, for one machine without a registry service.

Upstream: `open_registry("file:/dir")`. `registry.json` there is for people to read as well.

Invariants: ids count up from 1 and an equal schema has one id under all its subjects, so the
same registrations in the same order give the same ids anywhere; several processes share the
directory: writers take turns by a file lock, readers see the file before or after, never between.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from streamgauge.schemas.derivation import Schema
from streamgauge.schemas.errors import RegistryError, UnknownSchema
from streamgauge.schemas.registry import CheckedRegistry, canonical


class FileRegistry(CheckedRegistry):
    """`registry.json`: every version of every subject, in the order of registration."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RegistryError(f"cannot use {directory} as a registry: {error}") from error
        self._path = directory / "registry.json"
        self._lock = directory / "registry.lock"

    def latest(self, subject: str) -> tuple[int, Schema] | None:
        for version in reversed(self._versions()):
            if version["subject"] == subject:
                return version["id"], version["schema"]
        return None

    def subjects(self) -> list[str]:
        return sorted({version["subject"] for version in self._versions()})

    def _register(self, subject: str, schema: Schema) -> int:
        with self._lock.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # released by closing, also when we die
            versions = self._versions()
            text = canonical(schema)
            equal = [version for version in versions if canonical(version["schema"]) == text]
            for version in equal:
                if version["subject"] == subject:
                    return int(version["id"])
            self._check(subject, schema)
            schema_id = equal[0]["id"] if equal else max((v["id"] for v in versions), default=0) + 1
            self._write([*versions, {"id": schema_id, "subject": subject, "schema": schema}])
            return int(schema_id)

    def _fetch(self, schema_id: int) -> Schema:
        for version in self._versions():
            if version["id"] == schema_id:
                schema: Schema = version["schema"]
                return schema
        raise UnknownSchema(f"no schema has the id {schema_id} in {self._path}")

    def _versions(self) -> list[dict[str, Any]]:
        try:
            versions: list[dict[str, Any]] = json.loads(self._path.read_text())
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise RegistryError(f"cannot read {self._path}: {error}") from error
        return versions

    def _write(self, versions: list[dict[str, Any]]) -> None:
        draft = self._path.with_suffix(".tmp")
        try:
            with draft.open("w") as file:
                json.dump(versions, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path)
        except OSError as error:
            raise RegistryError(f"cannot write {self._path}: {error}") from error
