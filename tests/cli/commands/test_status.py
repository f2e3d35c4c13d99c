"""`status`: every server's answer, and exit code 3 where there is none."""

import json
from collections.abc import Callable

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
