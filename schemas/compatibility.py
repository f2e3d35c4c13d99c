"""Can readers with a new schema read what the old one wrote (Confluent's BACKWARD)?

Upstream: the registries, before anything registers. The rules are Avro's schema resolution with
reader = new and writer = old; the answer is a list of problems, empty when there are none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

PROMOTIONS = {
    "int": {"long", "float", "double"},
    "long": {"float", "double"},
    "float": {"double"},
    "string": {"bytes"},
    "bytes": {"string"},
}
"""What a reader may declare for a writer's primitive, besides the same."""

Names = dict[str, Any]


def backward_problems(new: Any, old: Any) -> list[str]:
    """What keeps a reader with `new` from reading what `old` wrote."""
    return list(_Check(_names(new), _names(old)).problems(new, old, ""))


class _Check:
    def __init__(self, reader_names: Names, writer_names: Names) -> None:
        self._reader_names = reader_names
        self._writer_names = writer_names
        self._visiting: set[tuple[str, str]] = set()

    def problems(self, reader: Any, writer: Any, path: str) -> Iterator[str]:
        reader = _resolve(reader, self._reader_names)
        writer = _resolve(writer, self._writer_names)
        if isinstance(writer, list):
            for branch in writer:
                yield from self.problems(reader, branch, path)
            return
        if isinstance(reader, list):
            if not any(not list(self.problems(branch, writer, path)) for branch in reader):
                yield f"{_at(path)}: {_kind(writer)} was written, none of {_kind(reader)} reads it"
            return
        kind, written = _kind(reader), _kind(writer)
        if kind != written:
            if kind not in PROMOTIONS.get(written, ()):
                yield f"{_at(path)}: {written} was written, {kind} cannot read it"
        elif kind == "record":
            yield from self._record(reader, writer, path)
        elif kind == "array":
            yield from self.problems(reader["items"], writer["items"], f"{path}[]")
        elif kind == "map":
            yield from self.problems(reader["values"], writer["values"], f"{path}{{}}")
        elif kind == "enum" and "default" not in reader:
            gone = [symbol for symbol in writer["symbols"] if symbol not in reader["symbols"]]
            if gone:
                yield f"{_at(path)}: the symbols {', '.join(gone)} are gone"
        elif kind == "fixed" and reader["size"] != writer["size"]:
            yield f"{_at(path)}: fixed of {writer['size']} bytes became {reader['size']}"

    def _record(self, reader: Any, writer: Any, path: str) -> Iterator[str]:
        pair = (reader["name"], writer["name"])
        aliases = {alias.rpartition(".")[2] for alias in reader.get("aliases", ())}
        if _short(writer) not in {_short(reader), *aliases}:
            yield f"{_at(path)}: the record {_short(writer)} is now {_short(reader)}"
        if pair in self._visiting:
            return
        self._visiting.add(pair)
        written = {field["name"]: field for field in writer["fields"]}
        for field in reader["fields"]:
            name = f"{path}.{field['name']}" if path else field["name"]
            known = [n for n in (field["name"], *field.get("aliases", ())) if n in written]
            if known:
                yield from self.problems(field["type"], written[known[0]]["type"], name)
            elif "default" not in field:
                yield f"{name}: new, and without a default"
        self._visiting.discard(pair)


def _names(schema: Any, namespace: str = "") -> Names:
    """The named types of a schema, by full name."""
    found: Names = {}
    if isinstance(schema, list):
        for branch in schema:
            found |= _names(branch, namespace)
    elif isinstance(schema, dict):
        if "name" in schema and schema["type"] in ("record", "enum", "fixed", "error"):
            space, _, short = schema["name"].rpartition(".")
            namespace = space or schema.get("namespace", namespace)
            found[f"{namespace}.{short}"] = found[short] = schema
        for inner in (
            *(field["type"] for field in schema.get("fields", ())),
            *(schema[key] for key in ("items", "values", "type") if key in schema),
        ):
            found |= _names(inner, namespace)
    return found


def _resolve(schema: Any, names: Names) -> Any:
    if isinstance(schema, str):
        return names.get(schema, schema)
    return schema


def _kind(schema: Any) -> str:
    if isinstance(schema, list):
        return "[" + ", ".join(_kind(branch) for branch in schema) + "]"
    return str(schema["type"] if isinstance(schema, dict) else schema)


def _short(schema: Any) -> str:
    return str(schema["name"]).rpartition(".")[2]


def _at(path: str) -> str:
    return path or "the record"
