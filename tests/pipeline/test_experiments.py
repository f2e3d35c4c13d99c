"""An experiment on real servers: both stages killed on the way, then ended by its guardrail.

create --start ──> simulate ──> worker (kill -9) ──> exposures, results ──> Postgres
                                    └── guardrail is breached: the worker stops it
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from streamgauge.cli import main
from streamgauge.cli.settings import Settings
from streamgauge.cli.stack.stack import Stack
from streamgauge.cli.verify import verify
from streamgauge.producers import Client, RecordProducer
from streamgauge.producers.simulator import Rates, Simulation, simulate
from streamgauge.producers.simulator.experiments import QUIZ_HINTS
from streamgauge.schemas import control
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.experiments import KIND, of_body
from streamgauge.schemas.registry import open_registry
from tests.pipeline.product import kill, proof_of, worker_of

EVENTS = 2_500
GUARDED = """
name: feed-ranking
variants: [{name: control}, {name: treatment}]
metrics:
  - {name: clicks, role: primary, aggregate: mean, events: [feed_click]}
  - name: views
    role: guardrail
    aggregate: mean
    events: [feed_view]
    worse: higher
    limit: 0.000001
    stop_on_breach: true
"""
DEMO = Path(__file__).parents[2] / "cli" / "demo" / "quiz-hints.yaml"


def streamgauge(settings: Settings, *arguments: str) -> list[Any]:
    done = invoked(settings, *arguments)
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def invoked(settings: Settings, *arguments: str) -> Result:
    line = ["experiments", *arguments, "--json"]
    return CliRunner().invoke(main, line, env=settings.environment(), catch_exceptions=False)


def traffic(kafka: str, registry: str, namespace: str) -> None:
    """A simulated world, and users who score 5 points more, and see far more, when treated."""
    with Client(kafka=kafka, registry=registry, namespace=namespace) as client:
        for number in range(300):
            user, treated = f"u-{number}", number % 2
            shown = {"experiment_id": "feed-ranking", "variant": ("control", "treatment")[treated]}
            client.track("experiment_exposure", user, **shown)
            client.track("experiment_exposure", user, **shown | {"experiment_id": "quiz-hints"})
            score = 60 + number // 2 * 7 % 11 + QUIZ_HINTS.effect * treated
            client.track("quiz_attempt", user, score=score)
            for _ in range(1 + number // 2 % 2 + 4 * treated):
                client.track("feed_view", user)
    world = RecordProducer(kafka=kafka, registry=registry, namespace=namespace)
    rates = Rates(duplicates=0.01, late=0.01, broken=0.001)
    simulate(world, Simulation(events=EVENTS, rates=rates))


def test_an_experiment_survives_kills_of_its_worker_and_is_ended_by_its_guardrail(
    kafka: str, postgres: str, redis_url: str, namespace: str, registry_url: str, tmp_path: Path
) -> None:
    settings = Settings(
        kafka=kafka,
        postgres=postgres,
        redis=redis_url,
        registry=registry_url,
        namespace=namespace,
        dir=tmp_path,
    )
    guarded = tmp_path / "feed-ranking.yaml"
    guarded.write_text(GUARDED)
    with Stack(settings, tmp_path / "stack", sinks=("postgres", "redis")) as stack:
        for file in (DEMO, guarded):
            assert streamgauge(settings, "create", str(file), "--start")[0]["state"] == "running"
        traffic(kafka, registry_url, namespace)
        for pause in (0.0, 2.0):
            time.sleep(pause)
            kill(worker_of(stack))
        deadline = time.monotonic() + 150
        while (state := states(settings)) != ENDED and time.monotonic() < deadline:
            stack.check()
            time.sleep(1)
        assert state == ENDED
        # Its state is told at once; its last figures come with the next ones of the worker.
        deadline = time.monotonic() + 60
        while (told := report_of(settings, "feed-ranking")).get("event") != "experiment_completed":
            assert time.monotonic() < deadline, told
            time.sleep(0.5)
        report = verify(proof_of(settings))
    assert report.ok, report.text()
    assert report.keys["redis.exposures"] >= 600
    verdicts = {(r["metric"], r["variant"]): r["verdict"] for r in told["results"]}
    assert verdicts["views", "treatment"] == "breached"
    rows = streamgauge(settings, "results", "quiz-hints")
    (quiz,) = [r for r in rows if r["metric"] == "quiz_score" and not r["is_control"]]
    assert quiz["users"] >= 150
    assert 0 < quiz["ci_sequential_low"] < QUIZ_HINTS.effect < quiz["ci_sequential_high"]


def report_of(settings: Settings, name: str) -> dict[str, Any]:
    """What the tables say of an experiment by now, if they say anything."""
    done = invoked(settings, "report", name)
    found: dict[str, Any] = json.loads(done.stdout) if done.exit_code == 0 else {}
    return found


ENDED = {"quiz-hints": "running", "feed-ranking": "stopped"}


def states(settings: Settings) -> dict[str, str]:
    codec = Codec(open_registry(settings.need("registry")))
    kafka = {"bootstrap.servers": settings.need("kafka")}
    found = control.latest(kafka, settings.namespace, codec, KIND)
    return {name: of_body(name, one.body or "").state for name, one in found.items()}
