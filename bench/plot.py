"""A horizontal bar chart as SVG, drawn by hand: GitHub shows it, and it costs no dependency."""

import math
from collections.abc import Mapping
from html import escape

_WIDTH, _BAR, _GAP, _LEFT, _TOP = 720, 18, 8, 190, 40


def bars(title: str, values: Mapping[str, float], line: float | None = None) -> str:
    """A bar for each value, the scale logarithmic where they differ more than twentyfold.

    `line` is a bound, drawn across.
    """
    shown = [value for value in (*values.values(), line or 0) if value > 0]
    most, least = max(shown, default=1.0), min(shown, default=1.0)
    room = _WIDTH - _LEFT - 80

    def length(value: float) -> float:
        if value <= 0:
            return 0
        if most > 20 * least:
            return room * math.log(2 * value / least) / math.log(2 * most / least)
        return room * value / most

    height = _TOP + len(values) * (_BAR + _GAP) + _GAP
    scale = ", logarithmic" if most > 20 * least else ""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="8" y="20" font-size="14">{escape(title + scale)}</text>',
    ]
    for place, (name, value) in enumerate(values.items()):
        y = _TOP + place * (_BAR + _GAP)
        end = _LEFT + length(value)
        colour = "#1f6f8b" if place == 0 else "#9aa5ad"  # ours comes first
        parts += [
            f'<text x="{_LEFT - 8}" y="{y + 13}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{_LEFT}" y="{y}" width="{end - _LEFT:.1f}" height="{_BAR}" '
            f'fill="{colour}"/>',
            f'<text x="{end + 6:.1f}" y="{y + 13}">{value:,.3g}</text>',
        ]
    if line is not None:
        x = _LEFT + length(line)
        parts.append(
            f'<path d="M{x:.1f} {_TOP - 6}V{height - _GAP}" stroke="#b3261e" stroke-dasharray="4"/>'
        )
    return "\n".join([*parts, "</svg>\n"])
