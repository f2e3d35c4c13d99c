"""`streamgauge users`: who somebody is by now, and how that came about; `refresh`: the views."""

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import click
from psycopg import Connection, connect, sql
from psycopg.rows import dict_row

from streamgauge.cli import output
from streamgauge.cli.errors import CommandError
from streamgauge.cli.settings import Settings, configured, schema_name

PROFILE = "SELECT * FROM {schema}.user_profiles WHERE user_id = ANY(%(names)s)"
NAMES = """
    SELECT anonymous_id, user_id FROM {schema}.user_links
    WHERE anonymous_id = %(user)s OR user_id = %(user)s
"""
SEGMENTS = """
    SELECT user_id, segment, entered_at FROM {schema}.user_segments
    WHERE user_id = ANY(%(names)s) AND left_at IS NULL ORDER BY segment
"""
DEVICES = """
    SELECT user_id, device_type, screen_size, connection_speed, preferred_quality,
           usage_patterns->'events' AS events
    FROM {schema}.user_device_preferences WHERE user_id = ANY(%(names)s)
    ORDER BY usage_patterns->'events' DESC
"""
TIMELINE = """
    SELECT * FROM (
        SELECT started_at AS at, user_id, 'session' AS what, jsonb_build_object(
            'minutes', round((duration_seconds / 60)::numeric, 1), 'events', events,
            'entry_page', entry_page, 'exit_page', exit_page, 'conversions', conversions,
            'is_binge', is_binge, 'is_final', is_final) AS details
        FROM unnest(%(names)s::text[]) AS name,
             LATERAL (SELECT * FROM {schema}.sessions
                      WHERE user_id = name AND started_at >= %(since)s::timestamptz
                      ORDER BY started_at DESC LIMIT %(limit)s) AS latest
    UNION ALL
        (SELECT entered_at, user_id, 'entered ' || segment, reason_in
         FROM {schema}.user_segments
         WHERE user_id = ANY(%(names)s) AND entered_at >= %(since)s::timestamptz
         ORDER BY entered_at DESC, segment LIMIT %(limit)s)
    UNION ALL
        (SELECT left_at, user_id, 'left ' || segment, reason_out
         FROM {schema}.user_segments
         WHERE user_id = ANY(%(names)s) AND left_at >= %(since)s::timestamptz
         ORDER BY left_at DESC, segment LIMIT %(limit)s)
    UNION ALL
        SELECT linked_at, user_id, 'identified', jsonb_build_object('anonymous_id', anonymous_id)
        FROM {schema}.user_links WHERE user_id = ANY(%(names)s) AND anonymous_id = ANY(%(names)s)
    UNION ALL
        SELECT first_seen, user_id, 'first seen', jsonb_build_object('country', country)
        FROM {schema}.user_profiles WHERE user_id = ANY(%(names)s)
    ) AS happened
    WHERE at >= %(since)s::timestamptz
    ORDER BY at DESC, what LIMIT %(limit)s
"""
_HIDDEN = {"user_id", "source_partition", "source_offset", "source_generation", "updated_at"}
_SCALED = {"quiz_score", "completion", "learning_time", "feedback"}


@click.group()
def users() -> None:
    """Show what is known of a user, and what happened when.

    A user's anonymous_id and user_id are one person here once an `identify` event had both.

    \b
    Examples:
      streamgauge users show u-17
      streamgauge users timeline u-17 --since 2026-01-31 --json
    """


@users.command()
@configured("postgres", "namespace", "dir")
@click.argument("user")
@output.option
def show(settings: Settings, user: str, as_json: bool) -> None:
    """The profile of a USER: counts, preferences, scores, segments, devices.

    \b
    Examples:
      streamgauge users show u-17
      streamgauge users show u-17 --json
    """
    shown(settings, user, as_json)


@click.command()
@configured("postgres", "namespace", "dir")
@click.option("--user-id", required=True, help="Whose profile.")
@output.option
def analyze_users(settings: Settings, user_id: str, as_json: bool) -> None:
    """The same as `users show`.

    \b
    Example:
      streamgauge analyze-users --user-id u-17
    """
    shown(settings, user_id, as_json)


@users.command()
@configured("postgres", "namespace", "dir")
@click.argument("user")
@click.option("--since", metavar="TIME", help="From this time on (2026-01-31, or with a time).")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@output.option
def timeline(settings: Settings, user: str, since: str | None, limit: int, as_json: bool) -> None:
    """What happened to a USER, the latest first: sessions, segments entered and left.

    \b
    Examples:
      streamgauge users timeline u-17
      streamgauge users timeline u-17 --since 2026-01-31 --json
    """
    with connect(settings.need("postgres"), autocommit=True) as connection:
        ask = _asker(connection, settings)
        asked = {"names": _names(ask, user), "since": since or "-infinity", "limit": limit}
        rows = list(ask(TIMELINE, asked))
    if not rows and not as_json:
        click.echo(f"nothing is known of {user}" + (f" since {since}" if since else ""), err=True)
    for row in rows:
        row["at"] = row["at"].isoformat()
        if not as_json:
            row["details"] = _told(row["details"] or {}, zeros=row["what"] != "session")
    output.table(rows, ("at", "user_id", "what", "details"), as_json)


@click.command()
@configured("postgres", "namespace", "dir")
@click.option("--every", type=click.IntRange(1), metavar="SECONDS", help="Again and again.")
@output.option
def refresh(settings: Settings, every: int | None, as_json: bool) -> None:
    """Refresh the materialised views; readers are not locked out meanwhile.

    \b
    Examples:
      streamgauge refresh
      streamgauge refresh --every 3600
    """
    from streamgauge.sinks.postgres import views  # late: it brings SQLAlchemy

    schema = schema_name(settings.namespace)
    while True:
        began = time.monotonic()
        refreshed = views.refresh(settings.need("postgres"), schema)
        seconds = round(time.monotonic() - began, 3)
        text = f"refreshed {', '.join(refreshed)} in {seconds} s"
        told = {"refreshed": refreshed, "seconds": seconds}
        output.write(told, as_json, text if refreshed else "somebody else refreshes them")
        if every is None:
            return
        time.sleep(every)


def shown(settings: Settings, user: str, as_json: bool) -> None:
    """Print a profile."""
    with connect(settings.need("postgres"), autocommit=True) as connection:
        ask = _asker(connection, settings)
        asked = {"names": (names := _names(ask, user))}
        rows = list(ask(PROFILE, asked))
        segments, devices = list(ask(SEGMENTS, asked)), list(ask(DEVICES, asked))
    if not rows:
        raise CommandError(
            f"nothing is known of {user}: is the name right, did the user deny analytics, or are"
            " its events still on their way (`streamgauge status`)?"
        )
    # The name that was asked for first, then those linked to it.
    rows.sort(key=lambda row: (row["user_id"] != user, row["user_id"]))
    found = {
        "user_id": user,
        "names": names,
        "profiles": [{"user_id": row["user_id"], **_profile(row)} for row in rows],
        "segments": [{**row, "entered_at": row["entered_at"].isoformat()} for row in segments],
        "devices": devices,
    }
    output.write(found, as_json, _text(found))


def _profile(row: Mapping[str, Any]) -> dict[str, Any]:
    told = {}
    for name, value in row.items():
        if name not in _HIDDEN:
            value = value.isoformat() if hasattr(value, "isoformat") else value
            told[name] = value / 1_000_000 if name in _SCALED and value else value
    return told


def _text(found: Mapping[str, Any]) -> str:
    lines = []
    for profile in found["profiles"]:
        lines.append([profile["user_id"]])
        for name, value in profile.items():
            if name != "user_id" and value not in (None, 0, [], {}):
                value = round(value, 3) if isinstance(value, float) else value
                value = ", ".join(map(str, value)) if isinstance(value, list) else value
                lines.append(["", name.replace("_", " "), str(value)])
    lines += [
        ["", "in segment", f"{s['segment']} since {s['entered_at']}"] for s in found["segments"]
    ]
    for device in found["devices"]:
        about = (device[n] for n in ("screen_size", "connection_speed", "preferred_quality"))
        told = ", ".join(text for text in about if text)
        lines.append(["", device["device_type"], f"{device['events']} events; {told}".rstrip("; ")])
    return output.aligned(lines)


def _names(ask: Any, user: str) -> list[str]:
    """The user's own name, and those that are the same person."""
    names = {user: None}
    for row in ask(NAMES, {"user": user}):
        names |= dict.fromkeys(row.values())
    return list(names)


def _asker(connection: Connection[Any], settings: Settings) -> Any:
    schema = sql.Identifier(schema_name(settings.namespace))

    def ask(query: str, asked: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        with connection.cursor(row_factory=dict_row) as cursor:
            yield from cursor.execute(sql.SQL(query).format(schema=schema), asked)  # type: ignore[arg-type]

    return ask


def _told(details: Mapping[str, Any], *, zeros: bool) -> str:
    return ", ".join(
        f"{name} {json.dumps(value, ensure_ascii=False)}"
        for name, value in details.items()
        if value is not None and value is not False and (zeros or value != 0)
    )
