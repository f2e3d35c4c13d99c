"""B2 on plain Faust: an agent folds into a table; the topic is keyed by user already."""

from application import PARTITIONS, app, events, out

EMPTY = {"events": 0, "sum": 0, "last_ts": 0}
profiles = app.Table("profiles", default=lambda: EMPTY, partitions=PARTITIONS)


@app.agent(events)
async def fold(stream):
    async for event in stream:
        user = event["user_id"]
        before = profiles[user]
        profile = {
            "events": before["events"] + 1,
            "sum": before["sum"] + (event["duration_ms"] or 0),
            "last_ts": max(before["last_ts"], event["ts"]),
            "page": event["page"],
        }
        profiles[user] = profile
        await out.send(key=user.encode(), value=profile)


if __name__ == "__main__":
    app.main()
