"""The consumer groups that workers are in: one, or several where agents run apart.

Upstream: the broker. Downstream: whoever asks how far the workers are (`lag`, `verify`).
"""

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

TIMEOUT = 10.0


def apart_from(admin: AdminClient, group: str) -> list[str]:
    """Groups of a subset of the agents, beside the `group` that runs them all."""
    try:
        listed = admin.list_consumer_groups(request_timeout=TIMEOUT).result().valid
    except KafkaException:  # the embedded broker cannot tell, and has no such groups
        return []
    return sorted(one.group_id for one in listed if one.group_id.startswith(f"{group}-"))
