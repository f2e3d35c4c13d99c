"""`streamgauge segments`: rules, who is in which segment and why, and changes of rules."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from psycopg import Connection, connect, sql
from psycopg.rows import dict_row

from streamgauge.cli import output
from streamgauge.cli.commands.worker import load_event_modules
from streamgauge.cli.progress import bar
from streamgauge.cli.settings import Settings, configured, schema_name
from streamgauge.producers.files import FORMATS
from streamgauge.schemas import control
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.metric_file import suggest
from streamgauge.schemas.profile_fields import PROFILE_FIELDS
from streamgauge.schemas.records import Control
from streamgauge.schemas.registry import open_registry
from streamgauge.schemas.segments import KIND, NAME, Rules, builtin, load_rules, rules_of

STAYS = """
    SELECT segment, entered_at, left_at, reason_in, reason_out, rule_version
    FROM {schema}.user_segments
    WHERE user_id = %(user)s AND (left_at IS NULL OR %(history)s)
    ORDER BY left_at IS NOT NULL, entered_at DESC, segment
    LIMIT %(limit)s
"""
MEMBERS = "SELECT segment, count(*) FROM {schema}.segment_members GROUP BY segment"


@click.group()
def segments() -> None:
    """List segments, explain who is in which, try rules, and put them in force.

    \b
    Examples:
      streamgauge segments list
      streamgauge segments explain u-17 --history
      streamgauge segments test power --file events.jsonl
      streamgauge segments test "active_days_7 >= 3" --file events.jsonl
      streamgauge segments apply --file rules.yaml --dry-run
    """


@segments.command("list")
@configured("kafka", "registry", "postgres", "namespace", "segments", "dir")
@output.option
def list_(settings: Settings, as_json: bool) -> None:
    """Every segment with its rule; with Postgres, how many are in it.

    The rules are those that `segments apply` put in force last; without any, or without Kafka,
    those that a worker begins with.

    \b
    Example:
      streamgauge segments list --json
    """
    rules = known(settings)
    members = _members(settings)
    rows = (
        {
            "name": one.name,
            "members": None if members is None else members.get(one.name, 0),
            "enter": one.rule.enter,
            "leave": one.rule.leave or f"not ({one.rule.enter})",
            "version": one.version,
            "description": one.rule.description,
        }
        for one in rules.segments
    )
    output.table(rows, ("name", "members", "enter", "version", "description"), as_json)


@segments.command()
@configured("postgres", "namespace", "dir")
@click.argument("user")
@click.option("--history", is_flag=True, help="Segments that the user has left, too.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True)
@output.option
def explain(settings: Settings, user: str, history: bool, limit: int, as_json: bool) -> None:
    """Which segments a USER is in, since when, and the values that caused it.

    \b
    Examples:
      streamgauge segments explain u-17
      streamgauge segments explain u-17 --history --json
    """
    asked = {"user": user, "history": history, "limit": limit}
    with connect(settings.need("postgres"), autocommit=True) as connection:
        rows = list(_stays(connection, schema_name(settings.namespace), asked))
    if not as_json:
        for row in rows:
            for key in ("reason_in", "reason_out"):
                row[key] = row[key] and told(row[key])
        if not rows:
            click.echo(f"{user} is in no segment", err=True)
    columns = ["segment", "entered_at", "reason_in", "rule_version"]
    if history:
        columns = ["segment", "entered_at", "left_at", "reason_in", "reason_out"]
    output.table(rows, columns, as_json)


@segments.command()
@configured("segments", "lateness_ms", "consent_default", "event_modules", "unknown_events")
@click.argument("rule")
@click.option("--leave", metavar="CONDITION", help="When users leave (default: not the RULE).")
@click.option("--file", "path", required=True, metavar="FILE", help="Events, - for standard input.")
@click.option(
    "--format", "form", type=click.Choice(list(FORMATS)), default="jsonl", show_default=True
)
@click.option(
    "--limit", type=click.IntRange(0), default=20, show_default=True, help="Moves to show."
)
@output.option
def test(
    settings: Settings,
    rule: str,
    leave: str | None,
    path: str,
    form: str,
    limit: int,
    as_json: bool,
) -> None:
    """Try a RULE on the events of a FILE, without Kafka: who would have been in it, and why.

    RULE is a condition, or the name of a segment.

    \b
    Examples:
      streamgauge segments test power --file events.jsonl
      streamgauge segments test "active_days_7 >= 3" --leave "active_days_7 < 1" --file e.jsonl
      streamgauge segments test bulk --segments rules.yaml --file access.log --format combined
    """
    from streamgauge.cli.backtest.trial import tried  # late: it brings polars

    rules = _tried(settings, rule, leave)
    load_event_modules(settings)
    with bar("lines read", None) as advance:
        found = tried(rules, settings, path, form, advance)
    counts = {
        "segment": rules.segments[0].name,
        "events": found.events,
        "users": found.users,
        "members": found.members,
        "entered": found.entered,
        "left": found.left,
    }
    shown = found.moves[-limit:] if limit else []
    for move in shown:
        move["at"] = datetime.fromtimestamp(move["at"] / 1000, UTC).isoformat()
        move["reason"] = json.loads(move["reason"])
    lines = [[move["at"], move["user_id"], move["move"], told(move["reason"])] for move in shown]
    text = (
        f"{found.members:,} of {found.users:,} users are in it in the end;"
        f" {found.entered:,} times somebody entered, {found.left:,} times somebody left"
    )
    if lines:
        text += "\n" + output.aligned([["at", "user", "move", "because"], *lines])
    output.write({**counts, "moves": shown}, as_json, text)


@segments.command()
@configured("kafka", "registry", "namespace", "transactional", "segments", "dir")
@click.option("--file", "path", type=click.Path(path_type=Path, dir_okay=False), help="Rules.")
@click.option("--builtin", "is_builtin", is_flag=True, help="The built-in rules, as they are now.")
@click.option("--dry-run", is_flag=True, help="Check, and say what would change; change nothing.")
@output.option
def apply(
    settings: Settings, path: Path | None, is_builtin: bool, dry_run: bool, as_json: bool
) -> None:
    """Put the rules of a FILE in force, without a restart.

    They replace all rules, in each partition at one place of the log. Whoever a change moves is
    told once, with `rule vN` in the reason. Wrong rules are refused with line and column.

    \b
    Examples:
      streamgauge segments apply --file rules.yaml
      streamgauge segments apply --file rules.yaml --dry-run --json
      streamgauge segments apply --builtin
    """
    if (path is None) == (not is_builtin):
        raise click.UsageError("give either --file FILE or --builtin")
    rules = load_rules(path) if path else builtin()
    settings.need("kafka"), settings.need("registry")
    now = _in_force(settings)
    changes = _changes(now or _begin(settings), rules)
    version = (now.version if now else 0) + 1
    if any(changes.values()) and not dry_run:
        control.publish(
            {"bootstrap.servers": settings.need("kafka")},
            settings.namespace,
            Codec(open_registry(settings.need("registry"))),
            Control(kind=KIND, name=NAME, version=version, body=rules.body()),
            transactional=settings.transactional,
        )
    told = "; ".join(f"{what}: {', '.join(names)}" for what, names in changes.items() if names)
    text = "these rules are in force already"
    if told:
        text = f"would be rule v{version}: {told}" if dry_run else f"rule v{version}: {told}"
    applied = bool(told) and not dry_run
    output.write({"version": version, "applied": applied, **changes}, as_json, text)


def _tried(settings: Settings, rule: str, leave: str | None) -> Rules:
    """The one segment to try."""
    there = {one.name: one for one in _begin(settings).segments}
    if rule in there and leave is None:
        return Rules((there[rule],))
    if re.fullmatch(r"[a-z][a-z0-9_-]*", rule) and rule not in PROFILE_FIELDS:
        raise click.UsageError(f"there is no segment {rule}: {suggest(rule, there)}")
    given = {"name": "tried", "enter": rule} | ({"leave": leave} if leave else {})
    return load_rules(json.dumps({"extends": "none", "segments": [given]}), "RULE")


def _changes(now: Rules, new: Rules) -> dict[str, list[str]]:
    before = {one.name: one for one in now.segments}
    after = {one.name: one for one in new.segments}
    return {
        "added": sorted(after.keys() - before.keys()),
        "changed": sorted(
            name for name in after.keys() & before.keys() if after[name] != before[name]
        ),
        "removed": sorted(before.keys() - after.keys()),
    }


def known(settings: Settings) -> Rules:
    """Those in force, as far as one can tell; else those that a worker begins with."""
    return _in_force(settings) or _begin(settings)


def _begin(settings: Settings) -> Rules:
    """What a worker begins with."""
    return load_rules(settings.segments) if settings.segments else builtin()


def _in_force(settings: Settings) -> Rules | None:
    """What was applied last; None where nothing was, or where nobody can tell."""
    if settings.kafka is None or settings.registry is None:
        return None
    codec = Codec(open_registry(settings.registry))
    kafka = {"bootstrap.servers": settings.kafka}
    found = control.latest(kafka, settings.namespace, codec, KIND).get(NAME)
    if found is None or found.body is None:
        return None
    return rules_of(found)


def _members(settings: Settings) -> dict[str, int] | None:
    if settings.postgres is None:
        return None
    schema = sql.Identifier(schema_name(settings.namespace))
    with connect(settings.postgres, autocommit=True) as connection:
        return dict(connection.execute(sql.SQL(MEMBERS).format(schema=schema)).fetchall())


def _stays(
    connection: Connection[Any], schema: str, asked: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        for row in cursor.execute(sql.SQL(STAYS).format(schema=sql.Identifier(schema)), asked):
            for key in ("entered_at", "left_at"):
                row[key] = row[key] and row[key].isoformat()
            yield row


def told(reason: dict[str, Any]) -> str:
    """Values as people read them."""
    return ", ".join(
        value if key == "change" else f"{key} = {json.dumps(value, ensure_ascii=False)}"
        for key, value in reason.items()
    )
