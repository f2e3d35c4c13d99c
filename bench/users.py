"""b11: what is known of users: CPU an event, memory a user; profiles alone, and all of it.

All of it by one worker, and by two that have half of the users each.
"""

import json
import subprocess
import sys

from bench.context import Context, say
from bench.rows import Figure, Row

CASES = (
    ("profiles in-turn", "profiles, catching up", 1, 12),
    ("profiles each-half", "profiles, each written for two events", 1, 4),
    ("all each-half", "sessions, profiles, segments", 1, 4),
    ("all each-half", "sessions, profiles, segments over two workers", 2, 4),
)
"""What is computed and when it is written, by how many workers, and how often each user comes: a
worker that catches up holds profiles back for a minute, eleven events of each of a million users.
"""
USERS, GOAL_US, GOAL_MB = 1_000_000, 6, 1_500


def users(context: Context) -> list[Row]:
    """Each worker in a process of its own."""
    count = min(USERS, context.events)
    return [
        _measured(case, name, count, times * count, workers) for case, name, workers, times in CASES
    ]


def _measured(case: str, name: str, count: int, events: int, workers: int) -> Row:
    say(f"b11: {name}, {count:,} users, {events:,} events")
    command = [sys.executable, "-m", "bench.jobs.users", *case.split()]
    running = [
        subprocess.Popen(
            [*command, str(count // workers), str(events // workers)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(workers)
    ]
    told = [json.loads(process.communicate()[0] or "null") for process in running]
    if any(process.returncode for process in running):
        raise RuntimeError(f"{name}: see the errors above")
    cpu, rows, memory = (
        sum(one[key] for one in told) / workers
        for key in ("cpu_us", "rows_per_event", "bytes_per_user")
    )
    return Row(
        name=name,
        figures={
            "CPU": Figure(
                value=round(cpu, 2),
                unit="µs/event",
                at_most=GOAL_US if case == "profiles in-turn" else None,
            ),
            "memory": Figure(value=round(memory), unit="B/user"),
            "all users": Figure(
                value=round(memory * count / 1e6),
                unit="MB",
                at_most=GOAL_MB if workers > 1 else None,
            ),
            "records": Figure(value=round(rows, 2), unit="/event"),
        },
        facts={"users": f"{count:,}"},
        details={f"worker {number}": one for number, one in enumerate(told)},
    )
