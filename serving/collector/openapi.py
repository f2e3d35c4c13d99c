"""The OpenAPI document of the collector, made from the event classes.

Upstream: `schemas`' event types. Downstream: GET /openapi.json; tests generate requests from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamgauge.schemas.events import EVENT_TYPES
from streamgauge.serving.collector.settings import CollectorConfig

REF = "#/components/schemas/"

REFUSALS: Mapping[str, str] = {
    "400": "Not JSON of this shape, broken gzip, a sent_at that is no time.",
    "401": "No write key, or one that does not exist.",
    "403": "The write key is not for this origin, or not for servers.",
    "405": "Not POST.",
    "408": "The request took too long to arrive.",
    "413": "The body or the batch is too large.",
    "415": "Another content type, charset or encoding than can be read.",
    "429": "Too many events of this key or client: wait for Retry-After seconds.",
    "431": "Too many or too large headers.",
    "503": "Nothing can be kept now: send it again after Retry-After seconds.",
}


def document(config: CollectorConfig) -> dict[str, Any]:
    """What GET /openapi.json answers."""
    schemas: dict[str, Any] = {}
    for cls in EVENT_TYPES.values():
        schema = cls.model_json_schema(ref_template=REF + "{model}")
        schemas |= schema.pop("$defs", {})
        schema["required"] = sorted({*schema.get("required", []), "event_type", "timestamp"})
        schemas[cls.__name__] = schema
    names = [cls.__name__ for cls in EVENT_TYPES.values()]
    schemas["Event"] = {
        "description": "One of the types, with a user_id or an anonymous_id. Its own fields may"
        " also be nested under `properties`, consent under `consent`; a time may be ISO 8601.",
        "oneOf": [{"$ref": REF + name} for name in names],
        "discriminator": {
            "propertyName": "event_type",
            "mapping": {kind: REF + cls.__name__ for kind, cls in EVENT_TYPES.items()},
        },
    }
    schemas |= _shapes(config.limits.batch_events)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Streamgauge collector", "version": "1"},
        "paths": {
            "/v1/events": {"post": _operation("one event", "Event", "sendEvent")},
            "/v1/batch": {"post": _operation("several events", "Batch", "sendBatch")},
            "/live": {"get": _probe("Whether the process works.", "live")},
            "/ready": {"get": _probe("Whether it takes events: 503 when not.", "ready")},
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "query": {"type": "apiKey", "in": "query", "name": "key"},
            },
        },
    }


def _shapes(most: int) -> dict[str, Any]:
    text = {"type": "string"}
    result = {
        "type": "object",
        "required": ["id", "status"],
        "properties": {
            "id": {"type": ["string", "null"], "description": "event_id, ours if it had none."},
            "status": {"enum": ["ok", "retry", "drop"]},
            "reason": {"type": "string", "description": "A stable code, a colon, and why."},
        },
    }
    error = {"type": "object", "required": ["code", "message"]}
    return {
        "Batch": {
            "type": "object",
            "required": ["batch"],
            "properties": {
                "batch": {"type": "array", "maxItems": most, "items": {"$ref": REF + "Event"}},
                "sent_at": {"type": "string", "format": "date-time"},
            },
        },
        "Results": {
            "type": "object",
            "required": ["results"],
            "properties": {"results": {"type": "array", "items": result}},
        },
        "Error": {
            "type": "object",
            "required": ["error"],
            "properties": {"error": error | {"properties": {"code": text, "message": text}}},
        },
    }


def _operation(what: str, schema: str, name: str) -> dict[str, Any]:
    """A POST: each event is answered ok, retry or drop; 200 when they are durable."""
    body = {"schema": {"$ref": REF + schema}}
    refusals = {status: _answer(text, "Error") for status, text in REFUSALS.items()}
    for status in ("408", "431"):  # said before there is a request
        refusals[status] = {"description": REFUSALS[status]}
    both = {"anyOf": [{"$ref": REF + "Results"}, {"$ref": REF + "Error"}]}
    refusals["503"] = {
        "description": REFUSALS["503"],
        "content": {"application/json": {"schema": both}},
    }
    return {
        "operationId": name,
        "summary": f"Send {what}.",
        "security": [{"bearer": []}, {"query": []}, {}],
        "requestBody": {
            "required": True,
            "content": {"application/json": body, "text/plain": body},
        },
        "responses": {"200": _answer("An answer for each event, in order.", "Results")} | refusals,
    }


def _answer(text: str, schema: str) -> dict[str, Any]:
    return {
        "description": text,
        "content": {"application/json": {"schema": {"$ref": REF + schema}}},
    }


def _probe(text: str, name: str) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": text,
        "responses": {"200": {"description": "Yes."}, "503": {"description": "No."}},
    }
