"""Whether two namespaces hold the very same metrics: a replay must give what the first run gave.

Upstream: two configs. Downstream: a report like `verify`'s. Invariant: no bounds, no excuses: the
same log gives the same rows, to the last bit, sketches included.
"""

import time
from collections.abc import Mapping
from contextlib import ExitStack

from streamgauge.cli.verify.cells import Cell, CellKey
from streamgauge.cli.verify.config import VerifyConfig
from streamgauge.cli.verify.report import Comparison, Difference, Report
from streamgauge.cli.verify.targets import METRICS, Targets


def compare_namespaces(a: VerifyConfig, b: VerifyConfig) -> Report:
    """The metrics of both, in the topic and (where both name one) in Postgres."""
    started = time.monotonic()
    with ExitStack() as stack:
        first, second = Targets(a, stack), Targets(b, stack)
        comparisons = [_same(METRICS, first.metrics()[0], second.metrics()[0])]
        if first.tables and second.tables:
            rows = first.tables.metrics(), second.tables.metrics()
            comparisons.append(_same(f"postgres.{METRICS}", *rows))
    report = Report(cut={}, source=f"namespaces {_name(a)} and {_name(b)}")
    seconds = time.monotonic() - started
    return report.filled(comparisons, shown=a.shown, seconds=seconds)


def _same(target: str, a: Mapping[CellKey, Cell], b: Mapping[CellKey, Cell]) -> Comparison:
    differences = [
        Difference(target=target, key=str(key), expected=str(a.get(key)), found=str(b.get(key)))
        for key in a.keys() | b.keys()
        if a.get(key) != b.get(key)
    ]
    return Comparison(target=target, keys=len(a), differences=differences)


def _name(config: VerifyConfig) -> str:
    return config.namespace or "default"
