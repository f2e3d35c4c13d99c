"""The ways out of a client, made when its sender starts: to Kafka, to a collector, or one's own.

Upstream: `client.py`. Downstream: the transports, which are imported by the sender's thread alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamgauge.producers.transport import Transport
    from streamgauge.schemas.registry import Registry

MakeTransport = Callable[[], "Transport"]


def way_out(
    kafka: str | Mapping[str, Any] | None,
    registry: str | Registry | None,
    namespace: str,
    endpoint: str | None,
    write_key: str,
    transport: MakeTransport | None,
    batch_events: int,
) -> MakeTransport:
    """What makes the transport that is asked for; ValueError where it is not clear which."""
    if [kafka, endpoint, transport].count(None) != 2:
        raise ValueError("say where events go: one of kafka (with registry), endpoint, transport")
    if transport is not None:
        return transport
    if endpoint is not None:
        return _collector(endpoint, write_key, batch_events)
    if registry is None:
        raise ValueError("kafka needs a registry: http(s)://HOST:PORT or file:/DIRECTORY")
    settings = {"bootstrap.servers": kafka} if isinstance(kafka, str) else dict(kafka or {})
    return _straight(settings, registry, namespace)


def _collector(endpoint: str, write_key: str, batch_events: int) -> MakeTransport:
    if not endpoint.startswith(("http://", "https://")):
        raise ValueError(f"{endpoint!r} is no address: use https://HOST[:PORT][/PATH]")

    def make() -> Transport:
        from streamgauge.producers.collector_transport import CollectorTransport

        return CollectorTransport(endpoint, write_key, max_batch=batch_events)

    return make


def _straight(
    settings: Mapping[str, Any], registry: str | Registry, namespace: str
) -> MakeTransport:
    def make() -> Transport:
        from streamgauge.producers.kafka_transport import KafkaTransport

        return KafkaTransport(settings, registry, namespace)

    return make
