import json

import polars as pl

from streamgauge.sinks.redis.commands import Commands
from streamgauge.sinks.redis.experiments import COLUMNS, apply


def a_row(variant: str, users: int, experiment: str | None = "e") -> dict[str, object]:
    told = {"partition": 1, "experiment": experiment, "metric": "m", "variant": variant}
    return {**dict.fromkeys(COLUMNS), **told, "users": users}


def test_the_last_row_of_a_variant_is_its_field() -> None:
    rows = [a_row("a", 1), a_row("b", 2), a_row("a", 3), a_row("a", 9, None)]
    commands = {1: Commands(prefix="sg:{x}:")}
    apply(pl.DataFrame(rows, infer_schema_length=None), commands)
    assert commands[1].keys == ["sg:{x}:results:e"]
    [[name, _, *pairs]] = json.loads(commands[1].packed)
    assert (name, len(pairs)) == ("HSET", 4)
    told = dict(zip(pairs[::2], map(json.loads, pairs[1::2]), strict=True))
    assert {field: row["users"] for field, row in told.items()} == {"m|a": 3, "m|b": 2}
