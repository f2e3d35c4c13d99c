"""`streamgauge state`: where every consumer group stands, and which checkpoints there are."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from streamgauge.cli import output
from streamgauge.cli.settings import Settings, configured
from streamgauge.cli.stack.lag import GROUPS, Broker


@click.command()
@configured("kafka", "namespace", "checkpoints", "dir")
@click.argument("group", type=click.Choice(list(GROUPS)), required=False)
@click.option("--local", is_flag=True, help="List and verify the checkpoints on this machine.")
@click.option("--drop-local", is_flag=True, help="Delete them: state is restored from Kafka.")
@output.option
def state(
    settings: Settings, group: str | None, local: bool, drop_local: bool, as_json: bool
) -> None:
    """Committed offset, end, lag and metadata of each partition that a GROUP reads.

    The sinks' own positions (sink_offsets in Postgres, fences in Redis, the archive's file names)
    are what they go by; what they commit to Kafka is for watching.

    \b
    Examples:
      streamgauge state
      streamgauge state worker --json
      streamgauge state --local
    """
    if local or drop_local:
        columns: tuple[str, ...] = ("group", "task", "partition", "offset", "age", "bytes", "is")
        output.table(_checkpoints(settings.checkpoint_folder, drop_local), columns, as_json)
        return
    broker = Broker(settings.need("kafka"))
    columns = ("group", "topic", "partition", "committed", "end", "lag", "metadata")
    positions = [
        position
        for name in ([group] if group else GROUPS)
        for position in broker.positions(settings.namespace, name)
    ]
    rows = ({name: getattr(position, name) for name in columns} for position in positions)
    output.table(rows, columns, as_json)


def _checkpoints(folder: Path | None, drop: bool) -> Iterator[dict[str, Any]]:
    """What each file holds; `is` says whether it is whole, for the rest takes Kafka to tell."""
    from streamgauge.streams.engine.checkpoint import Damaged, found, verified

    for path in found(folder) if folder else ():
        row: dict[str, Any] = dict.fromkeys(("task", "partition", "offset", "age"))
        row |= {"group": path.parent.name, "bytes": path.stat().st_size}
        try:
            head, _ = verified(path)
            row |= {"task": head.task, "partition": head.partition, "offset": head.offset}
            row |= {"age": round(time.time() - head.written), "is": "whole"}
        except Damaged as error:
            row |= {"task": path.stem, "is": f"damaged: {error}"}
        if drop:
            path.unlink()
            row["is"] = "deleted"
        yield row
