"""B2 on Quix Streams: the topic is keyed by user already, so nothing is repartitioned."""

import os

from application import app, source

EMPTY = {"events": 0, "sum": 0, "last_ts": 0}


def add(event, state):
    before = state.get("profile", EMPTY)
    profile = {
        "events": before["events"] + 1,
        "sum": before["sum"] + (event["duration_ms"] or 0),
        "last_ts": max(before["last_ts"], event["ts"]),
        "page": event["page"],
    }
    state.set("profile", profile)
    return profile


out = app.topic(os.environ["OUT"], key_serializer="bytes", value_serializer="json")
app.dataframe(source).apply(add, stateful=True).to_topic(out)

if __name__ == "__main__":
    app.run()
