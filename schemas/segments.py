"""Rules of segments: who is in which, as data from YAML.

Upstream: `catalogue/segments.yaml`, and rules files of users. Downstream: the worker
(`streams.segments`), `verify`, and the CLI. A file reads

    extends: builtin                 # the built-in set, and then these; or: none
    segments:
      - name: power
        description: Comes nearly every day, and does a lot.
        enter: active_days_7 >= 5 and engagement_score >= 60
        leave: active_days_7 < 4 or engagement_score < 50      # default: not what `enter` says

A segment of the same name replaces the built-in one. Conditions are those of `expressions.py`, over
the fields of `profile_fields.py`. Who is not in a segment enters when `enter` holds, who is in it
leaves when `leave` holds; a `leave` that holds less often than `not enter` keeps people from coming
and going at every step (hysteresis).

Invariants: rules are complete and correct once loaded, or loading fails with the line, the column
and what is allowed; a segment's version is a hash of what its conditions mean, and of nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Constraint

from streamgauge.schemas.expressions import (
    Expression,
    ExpressionError,
    Not,
    fields_of,
    parse_condition,
)
from streamgauge.schemas.metric_file import (
    DefinitionError,
    Fault,
    Place,
    load,
    suggest,
)
from streamgauge.schemas.profile_fields import PROFILE_FIELDS, FieldKind
from streamgauge.schemas.records import Control

CATALOGUE = Path(__file__).parent / "catalogue" / "segments.yaml"

KIND, NAME = "segments", "rules"
"""Of the control that changes them while workers run."""

MAX_SEGMENTS = 63
"""Membership is a bit each of an int64."""

KINDS: Mapping[str, FieldKind] = {name: field.kind for name, field in PROFILE_FIELDS.items()}


class SegmentRule(BaseModel):
    """One entry of the file, as written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Constraint(pattern=r"^[a-z][a-z0-9_-]*$", max_length=60)]
    description: str = ""
    enter: str
    leave: str | None = None


class SegmentFile(BaseModel):
    """A whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    extends: Literal["builtin", "none"] = "builtin"
    segments: tuple[SegmentRule, ...] = ()


@dataclass(frozen=True)
class Segment:
    """One segment, ready to be computed."""

    rule: SegmentRule

    @property
    def name(self) -> str:
        return self.rule.name

    @cached_property
    def enter(self) -> Expression:
        return parse_condition(self.rule.enter, KINDS)

    @cached_property
    def leave(self) -> Expression:
        return parse_condition(self.rule.leave, KINDS) if self.rule.leave else Not(self.enter)

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """What either condition reads, sorted."""
        both = (self.enter, self.leave)
        return tuple(sorted({field.name for side in both for field in fields_of(side)}))

    @cached_property
    def version(self) -> str:
        """8 hex digits."""
        return hashlib.sha256(repr((self.enter, self.leave)).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Rules:
    """A complete, correct set of segments."""

    segments: tuple[Segment, ...]
    """Sorted by name."""
    version: int = 0
    """0: those a worker was started with; then that of the control."""

    @property
    def label(self) -> str:
        """The reason of moves that the change to these rules causes."""
        return f"rule v{self.version}"

    def body(self) -> str:
        """As a control carries them."""
        rules = [one.rule.model_dump(exclude_none=True) for one in self.segments]
        return json.dumps(
            {"extends": "none", "segments": rules}, ensure_ascii=False, separators=(",", ":")
        )


def load_rules(source: Path | str, name: str = "<text>", version: int = 0) -> Rules:
    """Rules from a file (a Path) or from YAML or JSON text (a str); see the module's docstring.

    Raises DefinitionError with every problem found, each with file, line and column.
    """
    file, name = load(source, name, SegmentFile, _explained, _faults)
    named = {rule.name: rule for rule in file.segments}
    if file.extends == "builtin":
        named = {one.name: one.rule for one in builtin().segments} | named
    if len(named) > MAX_SEGMENTS:
        raise DefinitionError([f"{name}: {len(named)} segments: there can be {MAX_SEGMENTS}"])
    return Rules(tuple(Segment(named[one]) for one in sorted(named)), version)


def rules_of(control: Control) -> Rules:
    """The rules that a control puts in force; raises DefinitionError as `load_rules` does."""
    name = f"control {control.name} v{control.version}"
    if control.body is None:
        raise DefinitionError([f"{name}: has no rules: apply a file with `extends: none` for none"])
    return load_rules(control.body, name, control.version)


@cache
def builtin() -> Rules:
    """The built-in set."""
    return load_rules(CATALOGUE)


def _faults(file: SegmentFile) -> Iterator[Fault]:
    seen: dict[str, int] = {}
    for index, rule in enumerate(file.segments):
        path: Place = ("segments", index)
        if rule.name in seen:
            fault = f"there is already a segment of this name (number {seen[rule.name]})"
            yield (*path, "name"), fault
        seen.setdefault(rule.name, index + 1)
        for key in ("enter", "leave"):
            text = getattr(rule, key)
            if text is None:
                continue
            try:
                parse_condition(text, KINDS)
            except ExpressionError as error:
                for fault_ in error.faults:
                    yield (*path, key), f"{key}, column {fault_.column}: {fault_.message}"


def _explained(error: Any) -> Fault:
    """A pydantic error as a place and a sentence."""
    path: Place = tuple(error["loc"])
    place = str(path[-1]) if path else "the file"
    match error["type"]:
        case "extra_forbidden":
            model: type[BaseModel] = SegmentRule if len(path) > 2 else SegmentFile
            return path, f"unknown key {place}: {suggest(place, model.model_fields)}"
        case "missing":
            return path, f"{place} is missing"
        case "string_pattern_mismatch":
            return path, f"{place} is {error['input']!r}: allowed: small letters, digits, _ and -"
        case _:
            message = f"{error['msg'][0].lower()}{error['msg'][1:]}"
            return path, f"{place} is {error['input']!r}: {message}"
