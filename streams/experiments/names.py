"""Small numbers for names, so that columns can hold them; equal within a process only.

Upstream: definitions and rows of changelogs. Downstream: the state in `exposures.py`. Invariant:
a number once given stands for the same name for ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence


class Names:
    """Both ways."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._names: list[str] = []

    def __getitem__(self, number: int) -> str:
        return self._names[number]

    def number(self, name: str) -> int:
        """Of a name, known or new."""
        number = self._numbers.get(name)
        if number is None:
            number = self._numbers[name] = len(self._names)
            self._names.append(name)
        return number

    def adopt(self, names: Sequence[str]) -> bool:
        """Give these names their places, as another process did; False if others have them."""
        if any(a != b for a, b in zip(self._names, names, strict=False)):
            return False
        for name in names:
            self.number(name)
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)
