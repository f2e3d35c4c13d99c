"""Whose request it is: the client's address behind proxies, and how little of it is used.

Upstream: the connection and X-Forwarded-For. Downstream: rate limits and who may see /metrics.

Invariant: an address is written nowhere, neither into events nor logs; limits go by its network.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

Networks = Sequence[IPv4Network | IPv6Network]


MAX_FORWARDED = 500
"""Characters of X-Forwarded-For that are looked at: the last, which the proxies near us wrote."""


def client(peer: str, forwarded: str, trusted: tuple[IPv4Network | IPv6Network, ...]) -> str:
    """The nearest address that is no trusted proxy."""
    return _client(peer, forwarded[-MAX_FORWARDED:], trusted) if trusted else peer


@lru_cache(maxsize=10_000)
def _client(peer: str, forwarded: str, trusted: tuple[IPv4Network | IPv6Network, ...]) -> str:
    address = peer
    for hop in reversed([part.strip() for part in forwarded.split(",") if part.strip()]):
        if not within(address, trusted):
            break
        address = hop
    return address


@lru_cache(maxsize=10_000)
def network(address: str) -> str:
    """Who is limited together: one IPv4 address, or the /64 that a subscriber of IPv6 has."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address[:64]
    return str(ip_network(f"{parsed}/64", strict=False)) if parsed.version == 6 else address


def within(address: str, networks: Networks) -> bool:
    """Whether the address is in one of the networks."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return any(parsed in each for each in networks)


def private(address: str) -> bool:
    """Whether the address is of this machine or a private network."""
    try:
        return ip_address(address).is_private
    except ValueError:
        return False
