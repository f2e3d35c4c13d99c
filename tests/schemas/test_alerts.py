"""Alert levels as data: what is wrong is told with its line and what is allowed."""

import pytest

from streamgauge.schemas.alerts import fitting, load_alerts, presets
from streamgauge.schemas.metric_file import DefinitionError
from streamgauge.schemas.metrics import builtin, load_definitions
from streamgauge.schemas.watched import watched


def test_an_alert_of_ones_own_replaces_the_presets() -> None:
    text = "alerts: [{name: error_rate, metric: error_rate, scale: 100, red: {value: 9}}]"
    found = {alert.name: alert for alert in load_alerts(text, builtin())}
    assert found["error_rate"].red is not None
    assert found["error_rate"].red.value == 9
    assert found["error_rate"].yellow is None
    assert found["response_p95"].metric == "response_time_quantiles_p95"
    assert len(load_alerts("extends: none\n" + text, builtin())) == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("extends: defalt", "<text>:1: unknown preset defalt: .*did you mean default"),
        ("alerts:\n- {name: q, metric: error_rat, red: {value: 1}}", ":2: .*mean error_rate"),
        ("alerts:\n- {name: q, yello: {value: 1}}", ":2: .*unknown key yello.*mean yellow"),
        ("alerts:\n- {name: q, red: {valu: 1}}", ":2: .*unknown key valu.*mean value"),
        ("alerts:\n- {name: q}", ":2: alert q: give yellow, red or both"),
        ("alerts:\n- {name: q, yellow: {value: 2}, red: {value: 1}}", "red must not be nearer"),
        ("alerts:\n- {name: q, side: over, red: {value: 1}}", "allowed: 'above' or 'below'"),
        ("policies:\n- {detector: bott, throttle: 1}", ":2: unknown detector bott: .*mean bot"),
        ("policies:\n- {detector: bot, throtle: 1}", ":2: unknown key throtle.*mean throttle"),
        ("policies:\n- {detector: bot}", ":2: say what is done: throttle, exclude or web"),
        ("policies:\n- {detector: spike, throttle: 1}", ":2: only users can be throttled"),
        ("policies:\n- {detector: spike, exclude: yes}", ":2: only users can be excluded"),
        ("policies:\n- {detector: bot, webhook: ops}", ":2: no webhook ops: the file has no webh"),
        ("alerts:\n- {name: q, red: {value: 1}}\n- {name: q, red: {value: 1}}", ":3: .*already"),
        ("alerts:\n- {name: q, red: {value: x}}", "value is 'x'"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, told: str) -> None:
    with pytest.raises(DefinitionError, match=told):
        load_alerts(text, builtin())


def test_presets_hold_to_metrics_that_there_are() -> None:
    for alerts in presets().values():
        named = {alert.metric for alert in alerts if alert.metric}
        assert named == {alert.metric for alert in fitting(alerts, builtin())}


def test_an_alert_brings_its_series_and_marks_bring_theirs() -> None:
    definitions = load_definitions("""
extends: none
metrics:
  - {name: a, aggregate: count, by: [[page_url], []]}
  - {name: b, aggregate: count, by: [[], [page_url]], anomalies: [[page_url]]}
  - {name: c, aggregate: count}
""")
    alerts = load_alerts(
        "extends: none\nalerts: [{name: x, metric: a, red: {value: 1}}]", definitions
    )
    found = watched(definitions, alerts)
    assert [(one.name, one.by, one.windows) for one in found.metrics] == [
        ("a", ((),), ("1m",)),
        ("b", (("page_url",),), ("1m",)),
    ]


def test_a_mark_must_be_of_a_breakdown() -> None:
    with pytest.raises(DefinitionError, match=r"no breakdown page_ur to watch: .*mean page_url"):
        load_definitions("""
extends: none
metrics:
  - {name: a, aggregate: count, by: [[page_url]], anomalies: [[page_ur]]}
""")
