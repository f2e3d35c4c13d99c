"""`streamgauge state`: where every consumer group stands."""

import click

from streamgauge.cli import output
from streamgauge.cli.settings import Settings, configured
from streamgauge.cli.stack.lag import GROUPS, Broker


@click.command()
@configured("kafka", "namespace", "dir")
@click.argument("group", type=click.Choice(list(GROUPS)), required=False)
@output.option
def state(settings: Settings, group: str | None, as_json: bool) -> None:
    """Committed offset, end, lag and metadata of each partition that a GROUP reads.

    The sinks' own positions (sink_offsets in Postgres, fences in Redis, the archive's file names)
    are what they go by; what they commit to Kafka is for watching.

    \b
    Examples:
      streamgauge state
      streamgauge state worker --json
    """
    broker = Broker(settings.need("kafka"))
    columns = ("group", "topic", "partition", "committed", "end", "lag", "metadata")
    positions = [
        position
        for name in ([group] if group else GROUPS)
        for position in broker.positions(settings.namespace, name)
    ]
    rows = ({name: getattr(position, name) for name in columns} for position in positions)
    output.table(rows, columns, as_json)
