"""b11: what is known of users: CPU an event, memory a user; profiles alone, and all of it."""

import json
import subprocess
import sys

from bench.context import Context, say
from bench.rows import Figure, Row

CASES = (("profiles", "profiles"), ("all", "sessions, profiles, segments"))
USERS, GOAL_US, GOAL_BYTES = 1_000_000, 6, 1_500


def users(context: Context) -> list[Row]:
    """Each case in a process of its own, over as many events as make each user come twice."""
    events = 2 * USERS if context.events > USERS else context.events
    return [_measured(case, name, min(USERS, events), 2 * events) for case, name in CASES]


def _measured(case: str, name: str, count: int, events: int) -> Row:
    say(f"b11: {name}, {count:,} users, {events:,} events")
    command = [sys.executable, "-m", "bench.jobs.users", case, str(count), str(events)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr[-2000:]}")
    told = json.loads(done.stdout)
    goal = GOAL_US if case == "all" else None
    return Row(
        name=name,
        figures={
            "CPU": Figure(value=round(told["cpu_us"], 2), unit="µs/event", at_most=goal),
            "memory": Figure(
                value=round(told["bytes_per_user"]),
                unit="B/user",
                at_most=GOAL_BYTES if case == "all" else None,
            ),
            "records": Figure(value=round(told["rows_per_event"], 2), unit="/event"),
        },
        facts={"users": f"{count:,}"},
        details=told,
    )
