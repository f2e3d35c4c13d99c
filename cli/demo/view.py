"""What the demo shows while it runs: a live screen on a terminal, lines elsewhere.

Upstream: `demo.py` with what was sent and the figures. Pure: `screen` and `line` make text.
"""

import time
from collections.abc import Sequence
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from streamgauge.cli.demo.experiment import intervals
from streamgauge.cli.demo.figures import Figures

BARS = "▁▂▃▄▅▆▇█"
LINE_SECONDS = 5.0


class View:
    """Shows the demo on standard error, so that standard output stays for the result."""

    def __init__(self, title: str, total: int | None, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self._title = title
        self._total = total
        self._began = self._lined = time.monotonic()
        self._seen: list[tuple[float, int]] = []
        self._live = Live(console=self.console, refresh_per_second=4, transient=False)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def update(self, stage: str, sent: int, figures: Figures) -> None:
        """Show this moment."""
        now = time.monotonic()
        self._seen = [*self._seen, (now, figures.events)][-10:]
        (first, before), (last, after) = self._seen[0], self._seen[-1]
        rate = (after - before) / (last - first) if last > first else 0.0
        if self.console.is_terminal:
            self._live.update(screen(self._title, stage, sent, self._total, rate, figures))
        elif now - self._lined >= LINE_SECONDS:
            self._lined = now
            text = line(now - self._began, stage, sent, rate, figures)
            self.console.print(text, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """One line that stays."""
        self.console.print(text, highlight=False, soft_wrap=True)


def line(seconds: float, stage: str, sent: int, rate: float, figures: Figures) -> str:
    """The moment as one line, for logs."""
    behind = ", ".join(f"{name} {lag:,}" for name, lag in figures.lags.items())
    if figures.moves:
        user, segment, enters, reason = figures.moves[0]
        behind += f"; {user} {'→' if enters else '←'} {segment} ({reason})"
    if figures.looks:
        behind += f"; {figures.looks[-1].text()}"
    if figures.flags:
        worst = figures.flags[0]
        behind += f"; {worst.all} anomalies, {worst.lasting} last; {worst.text()}"
    return (
        f"{seconds:6.1f} s  {stage}: {sent:,} sent, {figures.events:,} counted ({rate:,.0f}/s), "
        f"{figures.page_views:,} page views, {figures.active_users:,} users, "
        f"{figures.open_sessions:,} sessions open, {figures.closed_sessions:,} over, "
        f"{figures.late:,} late, {figures.rejected:,} rejected; behind: {behind}"
    )


def screen(
    title: str, stage: str, sent: int, total: int | None, rate: float, figures: Figures
) -> RenderableType:
    """The moment as a screen."""
    ctr = figures.click_through_rate
    sessions = f"{figures.open_sessions:,} open, {figures.closed_sessions:,} over"
    numbers = Table.grid(padding=(0, 3))
    for row in (
        ("events/s", f"{rate:,.0f}", "page views", f"{figures.page_views:,}"),
        ("events", f"{figures.events:,}", "users today", f"{figures.active_users:,}"),
        ("late", f"{figures.late:,}", "click-through", "-" if ctr is None else f"{ctr:.2%}"),
        ("rejected", f"{figures.rejected:,}", "sent", f"{sent:,}"),
        ("sessions", sessions, "mean length", f"{figures.session_minutes:.1f} min"),
    ):
        numbers.add_row(Text(row[0], "dim"), row[1], Text(row[2], "dim"), row[3])
    pages = Table("top pages", "views", box=None, padding=(0, 2, 0, 0))
    for page, count in figures.pages:
        pages.add_row(Text(page, no_wrap=True, overflow="ellipsis"), f"{count:,}")
    behind = Table("reader", "behind", box=None, padding=(0, 2, 0, 0))
    for name, lag in figures.lags.items():
        behind.add_row(name, f"{lag:,}")
    columns = Table.grid(padding=(0, 4))
    columns.add_row(pages, behind)
    parts: list[RenderableType] = [numbers, Text(), columns, Text()]
    if figures.moves:
        moves = Table("segment", "user", "because", box=None, padding=(0, 2, 0, 0))
        for user, segment, enters, reason in figures.moves:
            arrow = Text(f"→ {segment}", "green") if enters else Text(f"← {segment}", "red")
            moves.add_row(arrow, user, Text(reason, no_wrap=True, overflow="ellipsis"))
        parts += [moves, Text()]
    if figures.flags:
        of = figures.flags[0]
        parts.append(Text(f"{of.all} anomalies, {of.lasting} of them last", "dim"))
        parts += [Text(flag.text(), flag.severity, no_wrap=True) for flag in figures.flags]
        parts.append(Text())
    parts.append(Text("events per minute of event time", "dim"))
    parts.append(Text(sparkline(figures.per_minute), "green"))
    if figures.looks:
        parts += [Text(), Text("quiz-hints adds 5 points; what the experiment says of it", "dim")]
        parts += [Text(one, "cyan", no_wrap=True) for one in intervals(figures.looks)]
    parts += [Text(), Text(stage, "bold")]
    if total:
        parts.append(ProgressBar(total=total, completed=min(sent, total)))
    return Panel(Group(*parts), title=title, title_align="left")


def sparkline(values: Sequence[int]) -> str:
    """One bar a value, the highest for the greatest."""
    top = max(values, default=0)
    if top <= 0:
        return ""
    return "".join(BARS[round(value / top * (len(BARS) - 1))] for value in values)
