"""Where the demo's events come from: the simulated world, or a file. Runs in a thread.

Upstream: `demo.py`. Downstream: the client. What was read at the source, and what of it was
produced, is counted here; the rest of the sums comes from the other end.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from streamgauge.cli.commands.simulate import connected
from streamgauge.cli.settings import Settings
from streamgauge.producers.files import FileReport, produce_file
from streamgauge.producers.simulator import Simulation, Truth, simulate


@dataclass(kw_only=True)
class Sent:
    """read = produced + rejected."""

    read: int = 0
    produced: int = 0
    rejected: int = 0


class Source(Protocol):
    """Sends events until it is done or told to stop, and keeps `sent` up to date."""

    sent: Sent
    total: int | None

    def send(self, settings: Settings, stop: threading.Event) -> None: ...


class World:
    """The simulated world; it rejects nothing, its broken records go out as they are."""

    def __init__(self, simulation: Simulation) -> None:
        self.sent = Sent()
        self.total = simulation.events
        self._simulation = simulation

    def send(self, settings: Settings, stop: threading.Event) -> None:
        with connected(settings) as (client, brake):
            done = simulate(
                client,
                self._simulation,
                progress=self._count,
                pause_when=None if brake is None else lambda: brake.on,
                stop=stop,
            )
        self.sent = Sent(read=done.records, produced=done.acknowledged)

    def _count(self, truth: Truth) -> None:
        self.sent = Sent(read=truth.records, produced=truth.records)


class File:
    """A file's lines."""

    def __init__(self, path: str, form: str) -> None:
        self.sent = Sent()
        self.total: int | None = None
        self.report = FileReport()
        self._path = path
        self._form = form

    def send(self, settings: Settings, stop: threading.Event) -> None:
        with connected(settings) as (client, brake):

            def progress(report: FileReport) -> None:
                self._count(report)
                if brake is not None:
                    brake.wait(stop)
                if stop.is_set():
                    raise InterruptedError

            self.report = produce_file(client, self._path, self._form, progress=progress)
        self._count(self.report)

    def _count(self, report: FileReport) -> None:
        self.sent = Sent(read=report.read, produced=report.produced, rejected=report.rejected)


class Sending(threading.Thread):
    """A source at work; `finish` raises what it raised."""

    def __init__(self, source: Source, settings: Settings) -> None:
        super().__init__(name="source", daemon=True)
        self.stop = threading.Event()
        self._send: Callable[[], None] = lambda: source.send(settings, self.stop)
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            self._send()
        except InterruptedError:
            pass
        except Exception as error:
            self._error = error

    def finish(self) -> None:
        self.join()
        if self._error is not None:
            raise self._error
