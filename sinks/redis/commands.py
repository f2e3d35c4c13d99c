"""Commands on the keys of one partition, as `apply.lua` takes them.

Upstream: modules that make commands of a topic's rows (`segments.py`). Downstream: the sink, which
puts fence and position in front. Commands set absolute values, so that doing them twice does no
harm; those of one key come in the order in which they were added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class Commands:
    """What is done to one partition."""

    prefix: str
    """Of its keys."""
    _keys: dict[str, int] = field(default_factory=dict)
    _arguments: list[str] = field(default_factory=list)

    def add(self, name: str, key: str, arguments: Sequence[str] = ()) -> None:
        """`key` comes after the prefix; commands take any number of arguments, 4,000 at a time."""
        # 1 and 2 are the fence and the index.
        number = self._keys.setdefault(key, len(self._keys) + 3)
        self._arguments += [name, str(number), str(len(arguments)), *arguments]

    @property
    def keys(self) -> list[str]:
        return [self.prefix + key for key in self._keys]

    @property
    def arguments(self) -> list[str]:
        return self._arguments
