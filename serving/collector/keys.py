"""Write keys: who may send events, from where, of which types and how many.

Upstream: a TOML file, read again when it changes. Downstream: `app.py`.

    [[keys]]
    name = "shop"                          # in metrics and logs; the key itself never is
    key = "wk_c1f0…"                       # or sha256 = "…", the digest of it
    scopes = ["browser"]                   # and/or "server"
    origins = ["https://shop.example", "https://*.shop.example"]
    event_types = ["page_view", "custom"]  # default: all
    rate = 5000                            # events a second, of all clients together
    client_rate = 50                       # and of one address

A request with an Origin comes from a browser and needs the scope `browser` and one of the origins;
any other needs `server`.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from streamgauge.serving.collector.errors import KeyFileError, Refusal

ORIGINS = 1_000
"""So many answers about origins are kept."""

SCOPES = ("browser", "server")
FIELDS = ("name", "key", "sha256", "scopes", "origins", "event_types", "rate", "client_rate")


@dataclass(frozen=True, kw_only=True)
class WriteKey:
    """One entry of the file, without the key itself."""

    name: str
    scopes: frozenset[str] = frozenset({"server"})
    origins: tuple[str, ...] = ()
    event_types: frozenset[str] | None = None
    rate: float | None = None
    client_rate: float | None = None

    def from_origin(self, origin: str) -> bool:
        """Whether a browser's page may send from there."""
        return "browser" in self.scopes and any(fnmatchcase(origin, one) for one in self.origins)


class KeyRing:
    """All keys, by digest; `None` of them means that everybody may send."""

    def __init__(
        self, keys: Mapping[str, WriteKey] | None, origins: Iterable[str] = ("*",)
    ) -> None:
        self._by_digest = keys
        self._given: dict[str, WriteKey] = {}  # digests of keys seen: hashing each time costs more
        self._origins: dict[str, bool] = {}
        self._open = WriteKey(name="open", scopes=frozenset(SCOPES), origins=tuple(origins))

    def permit(self, key: str | None, origin: str | None) -> WriteKey:
        """The entry that a request is sent under, or a Refusal."""
        entry = self._open if self._by_digest is None else self._find(key)
        if origin is None:
            if "server" not in entry.scopes:
                raise Refusal(
                    403, "scope", f"the write key {entry.name} is for browsers: scope server"
                )
        elif not entry.from_origin(origin):
            raise Refusal(
                403, "origin", f"{origin} is none of the origins of the write key {entry.name}"
            )
        return entry

    def from_origin(self, origin: str) -> bool:
        """Whether any key may be used from there: what a preflight asks, without its key."""
        known = self._origins.get(origin)
        if known is None:
            keys = [self._open] if self._by_digest is None else self._by_digest.values()
            known = any(key.from_origin(origin) for key in keys)
            if len(self._origins) < ORIGINS:
                self._origins[origin] = known
        return known

    def _find(self, key: str | None) -> WriteKey:
        if not key:
            raise Refusal(
                401,
                "no_key",
                "give a write key: Authorization: Bearer KEY, or ?key=KEY for beacons",
            )
        entry = self._given.get(key)
        if entry is None:
            assert self._by_digest is not None
            entry = self._by_digest.get(digest(key))
            if entry is None:
                raise Refusal(401, "unknown_key", "there is no such write key")
            self._given[key] = entry
        return entry


def digest(key: str) -> str:
    """What `sha256` holds."""
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()


def load(path: Path) -> dict[str, WriteKey]:
    """The keys of a file by their digests; raises KeyFileError."""
    try:
        told = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise KeyFileError(f"cannot read the write keys in {path}: {error}") from error
    entries = told.pop("keys", [])
    if told or not isinstance(entries, list):
        raise KeyFileError(f"{path}: holds [[keys]] and nothing else, not {', '.join(told)}")
    keys: dict[str, WriteKey] = {}
    for number, entry in enumerate(entries, 1):
        try:
            known, key = _entry(entry)
        except (KeyError, TypeError, ValueError) as error:
            raise KeyFileError(f"{path}: entry {number}: {error}") from None
        if known in keys:
            raise KeyFileError(f"{path}: entry {number}: its key is {keys[known].name}'s already")
        keys[known] = key
    return keys


def _entry(entry: Any) -> tuple[str, WriteKey]:
    if not isinstance(entry, dict) or not entry.get("name"):
        raise ValueError("needs a name")
    if unknown := set(entry) - set(FIELDS):
        raise ValueError(f"unknown {', '.join(sorted(unknown))}; there are {', '.join(FIELDS)}")
    if ("key" in entry) == ("sha256" in entry):
        raise ValueError("needs key or sha256, one of them")
    known = digest(entry["key"]) if "key" in entry else str(entry["sha256"]).lower()
    scopes = _texts(entry, "scopes", ["server"])
    if wrong := set(scopes) - set(SCOPES):
        raise ValueError(f"no scope {', '.join(sorted(wrong))}; there are {', '.join(SCOPES)}")
    origins = _texts(entry, "origins", [])
    if "browser" in scopes and not origins:
        raise ValueError('the scope browser needs origins ("*" for all)')
    types = _texts(entry, "event_types", []) if "event_types" in entry else None
    return known, WriteKey(
        name=str(entry["name"]),
        scopes=frozenset(scopes),
        origins=tuple(origins),
        event_types=None if types is None else frozenset(types),
        rate=_rate(entry, "rate"),
        client_rate=_rate(entry, "client_rate"),
    )


def _texts(entry: Mapping[str, Any], name: str, default: list[str]) -> list[str]:
    value = entry.get(name, default)
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError(f"{name} is a list of strings")
    return value


def _rate(entry: Mapping[str, Any], name: str) -> float | None:
    value = entry.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ValueError(f"{name} is a number of events a second (0: no limit)")
    return float(value)
