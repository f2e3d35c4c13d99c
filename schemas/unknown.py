"""What becomes of events of a type that nobody has declared: a mode for all, and per type.

Upstream: the setting `unknown_events`. Downstream: `parsing.py`, and by it `produce --file`,
`backtest`, the collector and the SDK's client (whose own default is reject).

    dead-letter                         refused, and kept as a dead letter (the default)
    custom                              accepted: a custom event whose name is the type
    reject                              refused at the door, and not kept
    reject, shop_*=custom, cart=dead-letter     by name, the first pattern that fits wins
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, cast, get_args

from streamgauge.schemas.errors import SchemaError

Mode = Literal["custom", "dead-letter", "reject"]
MODES: tuple[str, ...] = get_args(Mode)


@dataclass(frozen=True, kw_only=True)
class UnknownTypes:
    """The mode for each name."""

    default: Mode = "dead-letter"
    patterns: tuple[tuple[str, Mode], ...] = ()

    def mode(self, name: str) -> Mode:
        return next((mode for like, mode in self.patterns if fnmatchcase(name, like)), self.default)

    @classmethod
    def parse(cls, text: str) -> UnknownTypes:
        """From the setting's text; raises SchemaError."""
        default: Mode = "dead-letter"
        patterns: list[tuple[str, Mode]] = []
        for part in filter(None, (part.strip() for part in text.split(","))):
            like, given, mode = (piece.strip() for piece in part.rpartition("="))
            if mode not in MODES:
                raise SchemaError(
                    f"{part}: an unknown event is one of {', '.join(MODES)};"
                    " for some types alone: shop_*=custom"
                )
            if given:
                patterns.append((like, cast(Mode, mode)))
            else:
                default = cast(Mode, mode)
        return cls(default=default, patterns=tuple(patterns))


KEPT = UnknownTypes()
