"""The endpoint by itself, where a socket would not show it."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any, cast

from streamgauge.schemas.registry import open_registry
from streamgauge.serving.collector.delivery import Delivery
from streamgauge.serving.collector.door import Door
from streamgauge.serving.collector.events import Endpoint
from streamgauge.serving.collector.intake import Intake
from streamgauge.serving.collector.keys import KeyRing
from streamgauge.serving.collector.settings import CollectorConfig

from .conftest import NOW


class Stored:
    accepts = True

    async def store(self, records: list[Any]) -> list[str]:
        return ["stored"] * len(records)


def door(folder: Path) -> Door:
    config = CollectorConfig(kafka="", registry="")
    intake = Intake(open_registry(f"file:{folder}"), config.limits)
    return Door(config, KeyRing(None), intake, cast(Delivery, Stored()))


def post(door: Door, value: Any, *parts: bytes) -> tuple[int, Any]:
    """A request whose body comes in parts; the status and the answer."""
    left = list(parts or [json.dumps(value).encode()])
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        if not left:
            return {"type": "http.disconnect"}
        part = left.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(left) or bool(parts)}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"method": "POST", "query_string": b"", "headers": [], "client": ("127.0.0.1", 1)}
    asyncio.run(Endpoint(door, single=True)(scope, receive, send))
    return sent[0]["status"], json.loads(sent[1]["body"])


SEARCH = {"event_type": "search", "user_id": "u", "timestamp": NOW, "event_id": "e"}


def test_in_a_turn_of_the_loop_that_is_too_long_requests_are_refused(tmp_path: Path) -> None:
    busy = door(tmp_path)
    assert post(busy, SEARCH) == (200, {"results": [{"id": "e", "status": "ok"}]})
    busy.turned = time.monotonic() - 10
    status, answer = post(busy, SEARCH)
    assert (status, answer["error"]["code"]) == (503, "busy")
    assert busy.inflight == 0


def test_a_client_that_goes_away_leaves_nothing_behind(tmp_path: Path) -> None:
    left = door(tmp_path)
    status, answer = post(left, None, b'{"event_type"', b': "search"')
    assert (status, answer["error"]["code"]) == (400, "gone")
    assert left.inflight == 0
