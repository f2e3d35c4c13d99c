"""What answers over HTTP: the collector, which takes events in; the tracker that it hands out.

Upstream: browsers, SDKs. Downstream: Kafka, by `schemas` and `producers`. Needs the extra
`serving`.
"""
