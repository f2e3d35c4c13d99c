"""`state --local`: checkpoints on this machine, listed, verified and dropped."""

import json
import time
from collections.abc import Callable
from pathlib import Path

from click.testing import Result

from streamgauge.streams.engine.checkpoint import Checkpoints, Head, found

Run = Callable[..., Result]


def test_checkpoints_are_listed_verified_and_dropped(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    checkpoints = Checkpoints(folder, "workers")
    for partition in (0, 1):
        head = Head(
            cluster="c",
            group="workers",
            task="MetricMerge",
            identity="",
            topic="in",
            topic_id="t",
            partition=partition,
            offset=70,
            changelogs={},
            written=time.time() - 5,
        )
        checkpoints.write(head, b"state")
    last = list(found(folder))[1]
    last.write_bytes(last.read_bytes()[:-1])

    where = ("state", "--local", "--json", "--checkpoints", str(folder))
    first, second = map(json.loads, run(*where).output.splitlines())
    assert (first["group"], first["task"], first["offset"]) == ("workers", "MetricMerge", 70)
    assert (first["is"], second["is"]) == ("whole", "damaged: its checksum is wrong")
    assert 5 <= first["age"] < 60
    assert "MetricMerge-1" in run(*where[:2], *where[3:]).output
    run("state", "--drop-local", "--checkpoints", str(folder))
    assert run(*where).output == ""
    assert run("state", "--local", "--json", "--checkpoints", "off").output == ""
