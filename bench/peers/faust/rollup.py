"""B1 on plain Faust: an agent re-keys, a second one folds into a table."""

from application import GROUP, PARTITIONS, app, events, out

by_key = app.topic(
    f"{GROUP}-repartition",
    key_serializer="raw",
    value_serializer="json",
    partitions=PARTITIONS,
    internal=True,
)
rollup = app.Table("rollup", default=lambda: [0, 0, 0], partitions=PARTITIONS)


@app.agent(events)
async def rekey(stream):
    async for event in stream:
        key = f"{event['ts'] // 60_000 * 60_000}|{event['event_type']}|{event['page']}"
        # Only what the fold needs crosses the repartition topic.
        await by_key.send(key=key.encode(), value=[key, event["duration_ms"] or 0])


@app.agent(by_key)
async def fold(stream):
    async for key, duration in stream:
        count, total, most = rollup[key]
        row = [count + 1, total + duration, max(most, duration)]
        rollup[key] = row
        await out.send(key=key.encode(), value=dict(zip(("count", "sum", "max"), row, strict=True)))


if __name__ == "__main__":
    app.main()
