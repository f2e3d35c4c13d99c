"""Proof that nothing was lost or counted twice: tables against a recomputation from the raw topic.

report = verify(VerifyConfig(kafka={"bootstrap.servers": …}, registry=…, postgres=…))
report.ok, report.text(), report.to_json()
"""

from streamgauge.cli.verify.config import VerifyConfig
from streamgauge.cli.verify.namespaces import compare_namespaces
from streamgauge.cli.verify.report import Comparison, Difference, Report
from streamgauge.cli.verify.verification import verify

__all__ = ["Comparison", "Difference", "Report", "VerifyConfig", "compare_namespaces", "verify"]
