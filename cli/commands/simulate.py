"""`streamgauge simulate`: a simulated world's events, and its alias `simulate-data`."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click

from streamgauge.cli import output
from streamgauge.cli.progress import bar
from streamgauge.cli.settings import Settings, configured
from streamgauge.cli.stack.brake import Brake
from streamgauge.producers import RecordProducer
from streamgauge.producers.simulator import Rates, Simulation
from streamgauge.producers.simulator import simulate as run_simulation

HOUR_MS = 3_600_000
SETTINGS = ("kafka", "registry", "namespace", "lateness_ms", "transactional", "dir")


def world_options(command: Any) -> Any:
    """The flags that describe a world; `world` makes a simulation of them."""
    for option in (
        click.option("--broken", type=float, default=0.001, show_default=True, metavar="SHARE"),
        click.option("--late", type=float, default=0.01, show_default=True, metavar="SHARE"),
        click.option("--duplicates", type=float, default=0.01, show_default=True, metavar="SHARE"),
        click.option("--users", type=click.IntRange(1), help="Population (default: by habit)."),
        click.option(
            "--seed", type=int, default=1, show_default=True, help="Same seed, same world."
        ),
        click.option(
            "--rate",
            type=click.FloatRange(0),
            default=0.0,
            metavar="N",
            help="Events a second (default: as fast as possible; live: 500).",
        ),
    ):
        command = option(command)
    return command


@click.command()
@configured(*SETTINGS)
@world_options
@click.option("--events", type=click.IntRange(1), help="How many (default: live, until Ctrl-C).")
@click.option("--hours", type=float, default=6.0, show_default=True, help="Time they spread over.")
@click.option("--anomalies/--no-anomalies", default=True, help="Spikes, drops, errors, a bot.")
@click.option("--truth", type=click.Path(path_type=Path), help="Write what was sent to this file.")
@output.option
def simulate(
    settings: Settings,
    events: int | None,
    hours: float,
    anomalies: bool,
    truth: Path | None,
    as_json: bool,
    **world: Any,
) -> None:
    """Produce the events of a simulated world of users.

    With --events the events lie in the hours before now; without, they happen live.

    \b
    Examples:
      streamgauge simulate --events 100000 --truth truth.json
      streamgauge simulate --rate 2000
      streamgauge simulate --events 300000 --rate 3000 --duplicates 0.01 --late 0.01
    """
    wanted = simulation(
        settings, events=events, span_ms=int(hours * HOUR_MS), anomalies=anomalies, **world
    )
    _run(settings, wanted, truth, as_json)


@click.command("simulate-data")
@configured(*SETTINGS)
@click.option("--simulate-count", type=click.IntRange(1), default=10_000, show_default=True)
@output.option
def simulate_data(settings: Settings, simulate_count: int, as_json: bool) -> None:
    """Produce N simulated events: `simulate --events N`.

    \b
    Example:
      streamgauge simulate-data --simulate-count 50000
    """
    _run(settings, simulation(settings, events=simulate_count), None, as_json)


def simulation(
    settings: Settings,
    *,
    events: int | None,
    rate: float = 0.0,
    duplicates: float = 0.01,
    late: float = 0.01,
    broken: float = 0.001,
    **rest: Any,
) -> Simulation:
    """A simulation by flags; wrong ones are wrong usage."""
    live = events is None
    try:
        return Simulation(
            events=events,
            live=live,
            rate=rate or (500.0 if live else 0.0),
            lateness_ms=settings.lateness_ms,
            rates=Rates(duplicates=duplicates, late=late, broken=broken),
            **rest,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None


@contextmanager
def connected(settings: Settings) -> Iterator[tuple[RecordProducer, Brake | None]]:
    """A client, and a brake where the broker is the embedded one."""
    kafka: str | Mapping[str, Any] = settings.need("kafka")
    with ExitStack() as stack:
        brake = None
        if not settings.transactional:
            brake = stack.enter_context(Brake(settings.need("kafka"), settings.namespace))
            kafka = brake.conf
        client = RecordProducer(kafka, settings.need("registry"), settings.namespace)
        yield stack.enter_context(client), brake


def _run(settings: Settings, wanted: Simulation, truth: Path | None, as_json: bool) -> None:
    with connected(settings) as (client, brake), bar("simulating", wanted.events) as advance:
        done = run_simulation(
            client,
            wanted,
            truth_file=truth,
            progress=lambda so_far: advance(so_far.records),
            pause_when=None if brake is None else lambda: brake.on,
        )
    told = done.as_dict()
    totals = told["totals"]
    text = ", ".join(f"{count:,} {name}" for name, count in totals.items())
    output.write(
        {**totals, "acknowledged": done.acknowledged, "seconds": done.seconds},
        as_json,
        f"{text}; {done.acknowledged:,} acknowledged in {done.seconds:.1f} s",
    )
