"""`status`: every server's answer, and exit code 3 where there is none."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Run = Callable[..., Result]


@pytest.mark.postgres
@pytest.mark.redis
def test_servers_that_answer_and_groups_that_lag(
    run: Run, embedded: str, postgres: str, redis_url: str, registry_url: str
) -> None:
    where = ("--kafka", embedded, "--postgres", postgres, "--redis", redis_url)
    told = json.loads(run("status", "--json", *where, "--registry", registry_url).output)
    assert told["ok"] is True
    assert told["servers"]["postgres"]["says"].startswith("Postgres 1")
    assert told["lag"]["worker"] is None
    assert "has not started" in run("status", *where, "--registry", registry_url).output


def test_a_server_that_does_not_answer_is_named(run: Run, embedded: str, registry_url: str) -> None:
    nobody = ("--postgres", "postgresql://x@127.0.0.1:1/x", "--redis", "redis://127.0.0.1:1/0")
    where = ("--kafka", embedded, "--registry", registry_url)
    output = run("status", *where, *nobody, exit_code=3).output
    assert "postgres       NO ANSWER" in output
    assert "check --redis" in output


def test_workers_on_this_machine_say_how_they_are(
    run: Run, embedded: str, registry_url: str, tmp_path: Path
) -> None:
    folder = tmp_path / ".streamgauge" / "status"
    folder.mkdir(parents=True)
    restore = {"done": 450, "total": 1000, "rows": 400, "checkpoints": 2, "rate": 150}
    restore |= {"seconds": 3.0, "seconds_left": 3.7}
    # As of in a minute, for this very test may take as long.
    now = {"pid": os.getpid(), "at": time.time() + 60, "restore": restore, "assigned": ["events/0"]}
    for name, said in {
        "restoring": now | {"ready": False},
        "waiting": {"pid": os.getpid(), "at": time.time() + 60, "ready": False},
        "ready": now | {"ready": True, "checkpoint_age": 12.3},
        "killed": now | {"ready": True, "pid": 2**22 + 1},
        "stuck": now | {"ready": True, "at": time.time() - 60},
    }.items():
        (folder / f"{name}.json").write_text(json.dumps({"name": name, **said}))
    (folder / "half.json").write_text("{")
    nobody = ("--postgres", "postgresql://x@127.0.0.1:1/x", "--redis", "redis://127.0.0.1:1/0")
    where = ("--kafka", embedded, "--registry", registry_url, *nobody)
    lines = run("status", *where, exit_code=3).output.splitlines()
    told = dict(line.split(": ", 1) for line in lines if ": " in line and "NO ANSWER" not in line)
    assert told["restoring"] == "restoring: 450 of 1,000 (45 %), 150 a second, 3.7 s left"
    assert told["waiting"] == "waits for its partitions"
    assert told["ready"] == (
        "ready, 1 partitions, restored 400 rows and 2 checkpoints in 3.0 s, checkpoints 12 s old"
    )
    assert "was it killed?" in told["killed"]
    assert told["stuck"].startswith("has said nothing for ")
    found = json.loads(run("status", "--json", *where, exit_code=3).output)["workers"]
    assert {one["name"] for one in found if one["alive"]} == {"restoring", "waiting", "ready"}
