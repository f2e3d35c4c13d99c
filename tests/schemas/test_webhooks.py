"""Webhooks as data: who is told of what, and what is wrong is told with its place."""

import pytest

from streamgauge.schemas.alerts import load_policies
from streamgauge.schemas.metric_file import DefinitionError
from streamgauge.schemas.metrics import builtin
from streamgauge.schemas.webhooks import told_of

FILE = """
webhooks:
  - {name: ops, url: "https://ops.example.com/hooks?team=1", secret_env: OPS_SECRET}
  - {name: growth, url: "http://127.0.0.1:8080", experiments: true, retry_minutes: 1}
alerts:
  - {name: own, metric: error_rate, red: {value: 9}}
policies:
  - {detector: bot, severity: red, throttle: 10, webhook: ops}
  - {detector: spike, webhook: growth}
  - {detector: "threshold:own", webhook: ops}
  - {detector: "threshold:error_rate", webhook: ops}
"""


def test_policies_say_which_webhook_is_told_of_which_flag() -> None:
    file = load_policies(FILE, builtin())
    assert [one.name for one in file.webhooks] == ["ops", "growth"]
    cases = {
        ("ops", "bot", "red"): True,
        ("ops", "bot", "yellow"): False,
        ("growth", "bot", "red"): False,
        ("growth", "spike", "yellow"): True,
        ("ops", "threshold:own", "yellow"): True,
        ("ops", None, None): False,
    }
    assert {case: told_of(case[0], file.policies, *case[1:]) for case in cases} == cases
    assert file.throttle("u", "bot", "red") == 10
    assert file.throttle("u", "spike", "red") is None


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (
            "{name: ops, url: ops.example.com}",
            ":4: webhook ops: url is 'ops.example.com': no address: use ht",
        ),
        ("{name: ops, url: 'ftp://a'}", "no address"),
        ("{name: ops, url: 'https://a b'}", "no address"),
        ("{name: ops, url: 'https://a:99999'}", "no address"),
        ("{name: ops, url: 'https://me:pw@a'}", "without a user, password or #"),
        (
            "{name: ops, url: 'https://a', secret: x}",
            ":4: webhook ops: unknown key secret: .*mean secret_env",
        ),
        ("{name: ops, url: 'https://a', secret_env: STREAMGAUGE_X}", "begin with STREAMGAUGE_"),
        ("{name: ops}", ":4: webhook ops: url is missing"),
        ("{name: first, url: 'https://a'}", ":4: webhook first: there is already a webhook"),
        ("{name: ops, url: 'https://a'}", ":4: webhook ops: nothing would be told to it"),
        ("{name: Ops, url: 'https://a'}", "name is 'Ops'"),
        ("{name: ops, url: 'https://a', retry_minutes: -1}", "retry_minutes is -1"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(entry: str, told: str) -> None:
    text = f"\nwebhooks:\n  - {{name: first, url: 'https://first'}}\n  - {entry}\n"
    with pytest.raises(DefinitionError, match=told):
        load_policies(text, builtin())


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ("{detector: bot, webhook: op}", ":9: no webhook op: allowed: growth, ops; did you mean"),
        ("{detector: 'threshold:owm', webhook: ops}", "unknown detector .*mean threshold:own"),
        ("{detector: 'threshold:own', throttle: 1, webhook: ops}", "only users can be throttled"),
        ("{detector: bot}", ":9: say what is done"),
    ],
)
def test_a_policy_names_what_there_is(policy: str, told: str) -> None:
    text = FILE.replace("{detector: spike, webhook: growth}", policy)
    with pytest.raises(DefinitionError, match=told):
        load_policies(text, builtin())
