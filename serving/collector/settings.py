"""What a collector is told: where events go, who may send them, and how much at a time.

Upstream: `streamgauge collect`. Downstream: every other module of this package.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from streamgauge.schemas.unknown import KEPT, UnknownTypes

MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request may be, and all of them together."""

    body_bytes: int = MIB
    """Of a body as it is sent."""
    inflated_bytes: int = 4 * MIB
    """Of a body after gzip."""
    values: int = 60_000
    """Of all events of a request together; a comma in a text counts as well."""
    batch_events: int = 2000
    event_bytes: int = 256 << 10
    """Of an event as a record."""
    depth: int = 16
    """Of lists and objects within each other, in an event."""
    items: int = 1000
    """Of all lists and objects of an event together."""
    inflight_bytes: int = 24 * MIB
    """Of all requests that are not answered yet: more are answered 503."""
    busy_seconds: float = 1.0
    """More than this is to be done before a request's turn comes: it is answered 503."""
    header_bytes: int = 32 << 10
    headers: int = 100
    request_seconds: float = 30.0
    """For headers and body to arrive in."""
    connections: int = 20_000
    rate: float = 0.0
    """Events a second for all clients of a key together; 0 is no limit. A key may have its own."""
    client_rate: float = 0.0
    """The same for one client (an address) of a key."""


@dataclass(frozen=True, kw_only=True)
class CollectorConfig:
    """One collector process."""

    kafka: str
    registry: str
    namespace: str = ""
    host: str = "127.0.0.1"
    port: int = 8000
    write_keys: Path | None = None
    origins: tuple[str, ...] = ("*",)
    """Who may send from a browser where there are no write keys."""
    spool: Path | None = None
    """Folder for events while Kafka is away; without it they are answered 503."""
    spool_bytes: int = 1 << 30
    process: int = 0
    """Its number among several."""
    shared: bool = False
    """Whether others listen on the same port."""
    unknown: UnknownTypes = KEPT
    limits: Limits = field(default_factory=Limits)
    ack_seconds: float = 5.0
    """How long Kafka may take to acknowledge before the spool is used, or 503 is said."""
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    """Whose X-Forwarded-For is believed."""
    country_header: str | None = None
    """In which a proxy says the client's country (CF-IPCountry), for events that do not."""
    openapi: bool = True
    drain_seconds: float = 0.0
    """Between SIGTERM, when /ready turns 503, and the end of listening."""
