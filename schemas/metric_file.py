"""Definition files as data with line numbers, and the error that names them.

Invariant: every place in the file (keys and list positions from the top) has a line.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from streamgauge.schemas.errors import SchemaError

Model = TypeVar("Model", bound=BaseModel)
Place = tuple[str | int, ...]
Fault = tuple[Place, str]


class DefinitionError(SchemaError):
    """Definitions that cannot be used; `problems` names file, line, fault and what is allowed."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class Lines(dict[Place, int]):
    """Line numbers by place in the file; a place that is not there has its parent's."""

    def __missing__(self, path: Place) -> int:
        return self[path[:-1]] if path else 1


def load(
    source: Path | str,
    name: str,
    model: type[Model],
    explained: Callable[[Any], Fault],
    faults: Callable[[Model], Iterable[Fault]],
) -> tuple[Model, str]:
    """A file (a Path) or YAML or JSON text (a str, of this name) as a model, and its name.

    `explained` words one of pydantic's errors; `faults` finds what pydantic cannot. Raises
    DefinitionError with every problem found, each with file and line.
    """
    if isinstance(source, Path):
        name = str(source)
        try:
            source = source.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise DefinitionError([f"{name}: cannot be read: {reason}"]) from error
    content, lines = parse(source, name)
    return validated(content, lines, name, model, explained, faults), name


def validated(
    content: Any,
    lines: Lines,
    name: str,
    model: type[Model],
    explained: Callable[[Any], Fault],
    faults: Callable[[Model], Iterable[Fault]],
) -> Model:
    """What `parse` gave as a model; as `load` is."""
    try:
        file = model.model_validate(content)
    except ValidationError as error:
        raise problems_at(name, content, lines, map(explained, error.errors())) from None
    if found := list(faults(file)):
        raise problems_at(name, content, lines, found)
    return file


def parse(text: str, name: str) -> tuple[Any, Lines]:
    lines = Lines()
    loader = yaml.SafeLoader(text)

    def build(node: yaml.Node, path: Place) -> Any:
        if isinstance(node, yaml.MappingNode):
            content: dict[Any, Any] = {}
            for key_node, value_node in node.value:
                key = build(key_node, path)
                line = key_node.start_mark.line + 1
                if key in content:
                    raise DefinitionError([f"{name}:{line}: {key} is given twice"])
                lines[(*path, key)] = line
                content[key] = build(value_node, (*path, key))
            return content
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                lines[(*path, index)] = item.start_mark.line + 1
            return [build(item, (*path, index)) for index, item in enumerate(node.value)]
        return loader.construct_object(node)

    try:
        root = loader.get_single_node()
        return (build(root, ()) if root else {}), lines
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        problem = getattr(error, "problem", None) or str(error)
        raise DefinitionError([f"{name}:{line}: not valid YAML: {problem}"]) from error
    finally:
        loader.dispose()


def problems_at(name: str, content: Any, lines: Lines, faults: Iterable[Fault]) -> DefinitionError:
    def at(path: Place, fault: str) -> str:
        whose = ""
        if len(path) > 1 and path[0] in ("metrics", "segments", "alerts", "webhooks"):
            entry = content[path[0]][path[1]]
            if isinstance(entry, dict) and "name" in entry:
                whose = f"{str(path[0])[:-1]} {entry['name']}: "
        return f"{name}:{lines[path]}: {whose}{fault}"

    return DefinitionError([at(path, fault) for path, fault in faults])


def suggest(word: str, allowed: Iterable[str]) -> str:
    """What is allowed, and which of it was probably meant."""
    options = sorted(allowed)
    close = difflib.get_close_matches(word, options, n=1)
    meant = f"; did you mean {close[0]}?" if close else ""
    return f"allowed: {', '.join(options)}{meant}"
