"""Commands on the keys of one partition, as `apply.lua` takes them.

Upstream: modules that make commands of a topic's rows (`segments.py`). Downstream: the sink, which
puts fence and position in front. Commands set absolute values, so that doing them twice does no
harm; those of one key come in the order in which they were added.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(kw_only=True)
class Commands:
    """What is done to one partition."""

    prefix: str
    """Of its keys."""
    _keys: dict[str, int] = field(default_factory=dict)
    _told: list[tuple[Any, ...]] = field(default_factory=list)

    def add(self, name: str, key: str, arguments: Sequence[str] = ()) -> None:
        """`key` comes after the prefix; commands take any number of arguments, 4,000 at a time."""
        # 1 and 2 are the fence and the index.
        number = self._keys.setdefault(key, len(self._keys) + 3)
        self._told.append((name, number, *arguments))

    @property
    def keys(self) -> list[str]:
        return [self.prefix + key for key in self._keys]

    @property
    def packed(self) -> str:
        """As JSON: the client takes longer to send a thousand arguments than one of that size."""
        return json.dumps(self._told, ensure_ascii=False, separators=(",", ":"))
