"""Profiles again, one event at a time: what `user-profiles` and its tables have to say.

A plain fold over accepted events, with sets of days and counters by name in place of masks and
columns. Upstream: accepted events in the log's order, sessions that are over. Downstream: the
comparison. Invariant: shares no code with the worker; the formulas are those of docs/profiles.md.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any, TypeGuard

from streamgauge.schemas.profile_records import ACTIONS, DEVICES, OTHERS, STATUSES, TYPES

DAY_MS = 86_400_000
EPOCH_DAYS = 128
RENEWED_DAYS = 90
POINTS = {
    "page_view": 1, "search": 1, "button_click": 1, "link_click": 1, "feed_click": 1, "custom": 1,
    "form_submit": 2, "rating": 2, "task_update": 2, "course_interaction": 2,
    "content_interaction": 3, "learning_session": 4, "quiz_attempt": 4,
}  # fmt: skip
LIKES = {"content_interaction": 3, "course_interaction": 2, "learning_session": 3, "feed_click": 1}
LARGEST = 1e9
FULL = sum(2 ** (-age / 8) for age in range(1024))
"""The weights of all days, if each had a point; a day counts half after eight."""

User = tuple[int, str]
"""Partition, and user_id or anonymous_id."""


class Profile:
    """One user."""

    def __init__(self) -> None:
        self.first_seen, self.last_seen = 2**62, -(2**62)
        self.days: set[int] = set()
        self.counts: Counter[str] = Counter()
        self.sums: Counter[str] = Counter()
        self.hours: Counter[int] = Counter()
        self.watch_hours: Counter[int] = Counter()
        self.fading: defaultdict[str, Counter[int]] = defaultdict(Counter)  # by epoch
        self.affinities: defaultdict[tuple[str, str], Counter[int]] = defaultdict(Counter)
        self.devices: Counter[tuple[str, str, str]] = Counter()
        self.qualities: Counter[tuple[str, str]] = Counter()
        self.priorities: Counter[tuple[str, str]] = Counter()
        self.by_day: defaultdict[int, Counter[str]] = defaultdict(Counter)
        self.day_genres: defaultdict[int, set[str]] = defaultdict(set)
        self.country: tuple[int, str] | None = None

    def add(self, event: Mapping[str, Any]) -> None:
        get, time = event.get, event["timestamp"]
        kind, action = event["event_type"], get("action") or ""
        day, hour = time // DAY_MS, time // 3_600_000 % 24
        self.first_seen, self.last_seen = min(self.first_seen, time), max(self.last_seen, time)
        self.days.add(day)
        self.hours[hour] += 1
        self.by_day[day]["events"] += 1
        self.counts[TYPES.get(kind, OTHERS)] += 1
        if (kind, action) in ACTIONS:
            self.counts[ACTIONS[kind, action]] += 1
        points = POINTS.get(kind, 0)
        if kind == "playback":
            points = {"start": 1, "complete": 3}.get(action, 0)
        self._fade("activity", day, points)
        if (country := get("country")) is not None:
            self.country = max(self.country or (-(2**62), ""), (time, country[:64]))
        self._device(event)
        self._likes(event, kind, action, day)
        said = get("exploration")
        is_start = kind == "playback" and action == "start"
        if said is not None and (kind in ("feed_view", "feed_click") or is_start):
            self.counts["exploration_said"] += 1
            self.counts["explored"] += said
        if kind == "playback":
            self._playback(event, action, hour)
        elif kind == "learning_session":
            self._learned(event, day)
        elif kind == "course_interaction" and action == "complete":
            self._fade("learning", day, 1000)
        elif kind == "quiz_attempt":
            self._quiz(event, day)
        elif kind == "task_update":
            self._task(event, action, day)
        elif kind == "search" and get("results_count") == 0:
            self.counts["zero_result_searches"] += 1
        elif kind == "rating" and _sane(score := get("score")):
            self.counts["ratings_scored"] += 1
            self.sums["feedback"] += round(score * 1e6)

    def session(self, started_at: int, duration: int, events: int, *, binge: bool) -> None:
        self.counts["sessions"] += 1
        self.counts["bounces"] += events == 1
        self.counts["binges"] += binge
        self.sums["session_ms"] += duration
        day = self.by_day[started_at // DAY_MS]
        day["sessions"] += 1
        day["ms"] += duration

    def of_day(self, day: int) -> dict[str, Any]:
        """The fields of the record of a day."""
        did = self.by_day[day]
        created, completed = did["created"], did["completed"]
        rate = completed / created if created else None
        return {
            "events": did["events"],
            "sessions": did["sessions"],
            "minutes": did["ms"] / 60_000,
            "tasks_created": created,
            "tasks_completed": completed,
            "completion_rate": rate,
            "productivity_score": 70 * min(rate or 0, 1) + 6 * min(completed, 5),
            "genres": sorted(self.day_genres[day]),
        }

    def _fade(self, name: str, day: int, points: int) -> None:
        self.fading[name][day // EPOCH_DAYS] += points * _weight(day)

    def _device(self, event: Mapping[str, Any]) -> None:
        device = event.get("device_type")
        if device not in DEVICES:
            return
        self.counts[f"{device}_events"] += 1
        screen, speed = event.get("screen_size") or "", event.get("connection_speed") or ""
        self.devices[device, screen[:64], speed[:64]] += 1
        if quality := event.get("quality"):
            self.qualities[device, quality[:64]] += 1

    def _likes(self, event: Mapping[str, Any], kind: str, action: str, day: int) -> None:
        genre, content = event.get("genre"), event.get("content_type")
        liked = {"start": 1, "complete": 3}.get(action, 0) if kind == "playback" else 0
        if kind == "feed_click":
            liked = 2
        if genre is not None and liked:
            self.affinities["genre", genre[:64]][day // EPOCH_DAYS] += liked * _weight(day)
            self.day_genres[day].add(genre[:64])
        if content is not None and kind in LIKES:
            points = LIKES[kind] * _weight(day)
            self.affinities["type", content[:64]][day // EPOCH_DAYS] += points

    def _playback(self, event: Mapping[str, Any], action: str, hour: int) -> None:
        self.watch_hours[hour] += 1
        watched = event.get("position_ms") if action in ("complete", "skip") else None
        if watched is None and action == "complete":
            watched = event.get("duration_ms")
        if watched is not None and watched <= LARGEST * 1000:
            self.sums["watched_ms"] += round(watched)

    def _learned(self, event: Mapping[str, Any], day: int) -> None:
        done, took = event.get("completion_rate"), event.get("duration")
        if done is not None:
            self.counts["learning_rated"] += 1
            self.sums["completion"] += round(done * 1e6)
        self._fade("learning", day, 1000 if done is None else round(done * 1000))
        if took is not None and took <= LARGEST:
            self.sums["learning_time"] += round(took * 1e6)

    def _quiz(self, event: Mapping[str, Any], day: int) -> None:
        score, total = event.get("score"), event.get("total_questions")
        if score is None:
            return
        share = score / total if total else score
        if not _sane(share):
            return
        self.counts["quizzes_scored"] += 1
        self.sums["quiz_score"] += round(share * 1e6)
        self._fade("quizzes", day, 1)
        self._fade("quiz_points", day, round(min(max(share, 0.0), 1.0) * 1000))

    def _task(self, event: Mapping[str, Any], action: str, day: int) -> None:
        if (status := event.get("task_status")) in STATUSES:
            self.counts[f"tasks_{status}"] += 1
        if action not in ("created", "completed"):
            return
        self.by_day[day][action] += 1
        if (priority := event.get("priority")) is not None:
            self.priorities[action, priority[:64]] += 1
        due = event.get("due_date")
        if action == "completed" and due is not None and event["timestamp"] > due:
            self.counts["tasks_overdue"] += 1

    # -- what follows ----------------------------------------------------------------------

    def as_of(self, day: int) -> dict[str, Any]:
        """The readable fields of the record, as of a day."""
        last, count = max(self.days), self.counts
        week, month = (sum(day - n < d <= day for d in self.days) for n in (7, 28))
        faded = {
            name: self._faded(name, max(day, last))
            for name in ("activity", "learning", "quizzes", "quiz_points")
        }
        learner = any(
            count[n] for n in ("learning_sessions", "quiz_attempts", "course_interactions")
        )
        score = 70 * faded["activity"] / (faded["activity"] + 60) + 30 * month / 28
        streak = 0
        while last - streak in self.days:
            streak += 1
        events = sum(self.hours.values())
        return {
            "first_seen": self.first_seen,
            "last_seen": self.last_seen,
            "events": events,
            "active_days": len(self.days),
            "current_streak": streak if day - last <= 1 else 0,
            "active_days_7": week,
            "active_days_28": month,
            "days_since_last_seen": max(day - last, 0),
            "engagement_score": score,
            "learning_velocity": faded["learning"] / 1000 / FULL if learner else None,
            "dropout_risk": self._risk(day, faded, week, month) if learner else None,
            "avg_session_seconds": _mean(self.sums["session_ms"] / 1000, count["sessions"]),
            "avg_quiz_score": _mean(self.sums["quiz_score"] / 1e6, count["quizzes_scored"]),
            "avg_completion": _mean(self.sums["completion"] / 1e6, count["learning_rated"]),
            "preferred_device": _most([(count[f"{d}_events"], d) for d in DEVICES]),
            "preferred_genres": self._strongest("genre"),
            "preferred_content_types": self._strongest("type"),
            "preferred_hours": _top_hours(self.hours),
            "preferred_watch_hours": _top_hours(self.watch_hours),
            "country": self.country[1] if self.country else None,
            **{name: n for name, n in count.items() if n},
            **{name: n for name, n in self.sums.items() if n},
        }

    def _faded(self, name: str, day: int) -> float:
        epoch = max(self.days) // EPOCH_DAYS
        sums = self.fading[name]
        unit = _weight(0, day % 8) * 2.0 ** (day // 8 - epoch * 16)
        return (sums[epoch] + sums[epoch - 1] / 65_536) / unit

    def _risk(self, day: int, faded: Mapping[str, float], week: int, month: int) -> float:
        known = []
        if faded["quizzes"] > 0:
            known.append(faded["quiz_points"] / 1000 / faded["quizzes"])
        if rated := self.counts["learning_rated"]:
            known.append(self.sums["completion"] / 1e6 / rated)
        good = sum(known) / len(known) if known else 0.5
        usual = (month - week) / 3
        falling = max((usual - week) / usual, 0.0) if usual > 0 else 0.0
        recency = min(max(day - max(self.days), 0) / 14, 1.0)
        return 0.5 * recency + 0.3 * (1 - good) + 0.2 * falling

    def _strongest(self, kind: str) -> list[str]:
        strength = {}
        for (what, name), sums in self.affinities.items():
            if what == kind:
                epoch = max(sums)
                value = (sums[epoch] + sums[epoch - 1] / 65_536) * 2.0 ** (epoch * 16 - 2560)
                strength[name] = value
        return sorted(strength, key=lambda name: (-strength[name], name))[:5]


class ProfileFold:
    """All users, by partition and name."""

    def __init__(self) -> None:
        self.users: defaultdict[User, Profile] = defaultdict(Profile)
        self.links: dict[tuple[str, str], int] = {}
        """The earliest `identify` with both, by anonymous_id and user_id."""

    def add(self, partition: int, event: Mapping[str, Any]) -> None:
        """An accepted event of somebody who may be known."""
        user, anonymous = event.get("user_id"), event.get("anonymous_id")
        self.users[partition, user or anonymous or ""].add(event)
        if event["event_type"] == "identify" and user and anonymous:
            time, pair = event["timestamp"], (anonymous, user)
            self.links[pair] = min(self.links.get(pair, time), time)


def day_of(profile: Profile, watermark: int) -> int:
    """The day as of which the record holds when nothing is left to write."""
    return max(min(watermark // DAY_MS, max(profile.days) + RENEWED_DAYS), 0)


def _weight(day: int, phase: int | None = None) -> int:
    if phase is None:
        phase = day % 8
    return round(1024 * 2 ** (phase / 8)) << (day % EPOCH_DAYS // 8)


def _sane(value: float | None) -> TypeGuard[float]:
    return value is not None and abs(value) <= LARGEST


def _mean(total: float, count: int) -> float | None:
    return total / count if count else None


def _most(counted: list[tuple[int, str]]) -> str | None:
    best = max(count for count, _ in counted)
    return next((name for count, name in counted if count == best), None) if best else None


def _top_hours(hours: Counter[int]) -> list[int]:
    capped = {hour: min(count, 65_535) for hour, count in hours.items() if count}
    return sorted(capped, key=lambda hour: (-capped[hour], hour))[:3]
