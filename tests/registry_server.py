"""A registry that speaks Confluent's REST protocol, as strict as the real one about it.

https://docs.confluent.io/platform/current/schema-registry/develop/api.html: the paths, the content
types, ids shared by equal schemas, and the error codes (404xx, 409, 422xx) with their HTTP status.
What it does not do is judge compatibility: `refuse` has the reason for which it answers 409.
"""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import fastavro

TYPE = "application/vnd.schemaregistry.v1+json"
TAKEN = {TYPE, "application/vnd.schemaregistry+json", "application/json"}
Answer = tuple[int, Any]


def error(code: int, message: str) -> Answer:
    """The HTTP status is what the code begins with."""
    return int(str(code)[:3]), {"error_code": code, "message": message}


class RegistryServer(ThreadingHTTPServer):
    """Listens on a free port once `serve_forever` runs."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.versions: list[tuple[str, str]] = []
        self.fail_with = 0
        self.refuse = ""
        self.authorization = ""
        self.requests = 0
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, method: str, path: list[str], body: dict[str, Any]) -> Answer:
        self.requests += 1
        if self.fail_with:
            return error(self.fail_with, "as told")
        match method, path:
            case "GET", ["subjects"]:
                return 200, list({subject for subject, _ in self.versions})
            case "GET", ["schemas", "types"]:
                return 200, ["AVRO"]
            case "GET", ["schemas", "ids", number]:
                texts = self._texts()
                if number.isdigit() and 0 < int(number) <= len(texts):
                    return 200, {"schema": texts[int(number) - 1]}
                return error(40403, f"Schema {number} not found")
            case "GET", ["config"]:
                return 200, {"compatibilityLevel": "BACKWARD"}
            case "GET", ["subjects", subject, "versions"]:
                of = self._of(subject)
                return (200, [*range(1, len(of) + 1)]) if of else self._no_subject(subject)
            case "GET", ["subjects", subject, "versions", version]:
                return self._version(subject, version)
            case "POST", ["subjects", subject]:
                return self._lookup(subject, body)
            case "POST", ["subjects", subject, "versions"]:
                return self._register(subject, body)
            case "POST", ["compatibility", "subjects", _, "versions", _]:
                return 200, {"is_compatible": not self.refuse}
        return error(404, "HTTP 404 Not Found")

    def _register(self, subject: str, body: dict[str, Any]) -> Answer:
        text = body["schema"]
        if (invalid := _invalid(body)) is not None:
            return invalid
        if (subject, text) not in self.versions:
            if self.refuse:
                return error(
                    409,
                    "Schema being registered is incompatible with an earlier schema for subject"
                    f' "{subject}", details: [{self.refuse}]',
                )
            self.versions.append((subject, text))
        return 200, {"id": self._texts().index(text) + 1}

    def _lookup(self, subject: str, body: dict[str, Any]) -> Answer:
        of = self._of(subject)
        if not of:
            return self._no_subject(subject)
        if (invalid := _invalid(body)) is not None:
            return invalid
        if body["schema"] not in of:
            return error(40403, "Schema not found")
        return self._version(subject, str(of.index(body["schema"]) + 1))

    def _version(self, subject: str, version: str) -> Answer:
        of = self._of(subject)
        if not of:
            return self._no_subject(subject)
        if version != "latest" and not version.isdigit():
            return error(42202, f"The specified version '{version}' is not a valid version id")
        number = len(of) if version == "latest" else int(version)
        if not 0 < number <= len(of):
            return error(40402, f"Version {version} not found.")
        text = of[number - 1]
        id_ = self._texts().index(text) + 1
        return 200, {"subject": subject, "id": id_, "version": number, "schema": text}

    def _no_subject(self, subject: str) -> Answer:
        return error(40401, f"Subject '{subject}' not found.")

    def _of(self, subject: str) -> list[str]:
        return [text for name, text in self.versions if name == subject]

    def _texts(self) -> list[str]:
        return list(dict.fromkeys(text for _, text in self.versions))


def _invalid(body: dict[str, Any]) -> Answer | None:
    if body.get("schemaType", "AVRO") != "AVRO":
        return error(42201, f"Invalid schema type {body['schemaType']}")
    try:
        fastavro.parse_schema(json.loads(body["schema"]))
    except (ValueError, KeyError, fastavro.schema.SchemaParseException) as wrong:
        return error(42201, f"Invalid schema: {wrong}")
    return None


class _Handler(BaseHTTPRequestHandler):
    server: RegistryServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._handle("GET")

    def do_POST(self) -> None:
        self._handle("POST")

    def _handle(self, method: str) -> None:
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.authorization = self.headers.get("Authorization", "")
        self.server.asked.append(f"{method} {self.path}")
        wanted = {part.partition(";")[0].strip() for part in self._accept().split(",")}
        given = self.headers.get("Content-Type", "").partition(";")[0]
        path = [unquote(part) for part in self.path.partition("?")[0].split("/") if part]
        if not wanted & {*TAKEN, "*/*", "application/*"}:
            status, answer = error(406, "HTTP 406 Not Acceptable")
        elif method == "POST" and given not in TAKEN:
            status, answer = error(415, "HTTP 415 Unsupported Media Type")
        else:
            status, answer = self.server.answer(method, path, json.loads(text or "{}"))
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", TYPE)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _accept(self) -> str:
        return self.headers.get("Accept", "*/*")

    def log_message(self, *_: Any) -> None: ...
