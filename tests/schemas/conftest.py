"""Messages without a broker, and registries of every kind."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

import pytest

from streamgauge.schemas.registry import Registry, open_registry


@dataclass(frozen=True)
class FakeMessage:
    """What the decoder asks of a confluent_kafka.Message."""

    data: bytes | None
    at: tuple[int, int] = (0, 0)
    appended: int = 1_700_000_000_000
    record_key: bytes | None = b"key"

    def value(self) -> bytes | None:
        return self.data

    def key(self) -> bytes | None:
        return self.record_key

    def topic(self) -> str:
        return "fake"

    def partition(self) -> int:
        return self.at[0]

    def offset(self) -> int:
        return self.at[1]

    def timestamp(self) -> tuple[int, int]:
        return (2, self.appended)


@pytest.fixture(scope="session")
def message() -> type[FakeMessage]:
    return FakeMessage


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return open_registry(f"file:{tmp_path / 'registry'}")


class RegistryServer(ThreadingHTTPServer):
    """The part of Confluent's REST interface that clients of ours use."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.versions: list[tuple[str, str]] = []
        self.fail_with = 0
        self.authorization = ""
        self.requests = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, path: list[str], body: dict[str, Any]) -> tuple[int, Any]:
        self.requests += 1
        if self.fail_with:
            return self.fail_with, {"error_code": self.fail_with, "message": "as told"}
        texts = list(dict.fromkeys(text for _, text in self.versions))
        match path:
            case ["schemas", "ids", number] if int(number) <= len(texts):
                return 200, {"schema": texts[int(number) - 1]}
            case ["subjects"]:
                return 200, list({subject for subject, _ in self.versions})
            case ["subjects", subject, "versions", "latest"]:
                of = [text for name, text in self.versions if name == subject]
                if of:
                    return 200, self.version(subject, of[-1], len(of), texts)
            case ["subjects", subject] if (subject, body["schema"]) in self.versions:
                return 200, self.version(subject, body["schema"], 1, texts)
            case ["subjects", subject, "versions"]:
                self.versions.append((subject, body["schema"]))
                return 200, {"id": [*texts, body["schema"]].index(body["schema"]) + 1}
        return 404, {"error_code": 40401, "message": "not found"}

    def version(self, subject: str, text: str, version: int, texts: list[str]) -> dict[str, Any]:
        id_ = texts.index(text) + 1
        return {"subject": subject, "id": id_, "version": version, "schema": text}


class _Handler(BaseHTTPRequestHandler):
    server: RegistryServer

    def do_GET(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(size) or "{}")
        self.server.authorization = self.headers.get("Authorization", "")
        path = [unquote(part) for part in self.path.partition("?")[0].split("/") if part]
        status, answer = self.server.answer(path, body)
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def registry_server() -> Iterator[RegistryServer]:
    with RegistryServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()


@pytest.fixture(params=["file", "mock", "http"])
def make_registry(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Registry]:
    """Opens the same registry each time, of each kind."""
    urls = {"file": f"file:{tmp_path / 'shared'}", "mock": f"mock://{uuid4()}"}
    url = urls.get(request.param) or request.getfixturevalue("registry_server").url
    return lambda: open_registry(url)
