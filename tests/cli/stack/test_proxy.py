"""The proxy: what passes, what is held, what is lost, and which response is which."""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from streamgauge.cli.stack.kafka import LocalKafka
from streamgauge.cli.stack.process import free_port
from streamgauge.cli.stack.proxy import ApiKey, Delay, Drop, Frames, KafkaProxy, Proxy


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends everything back, as it came."""

    def serve(client: socket.socket) -> None:
        with client, suppress(ConnectionError):
            while data := client.recv(1 << 16):
                client.sendall(data)

    def accept() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(echo: int) -> Iterator[Proxy]:
    with Proxy("127.0.0.1", echo) as proxy:
        yield proxy


def connect(proxy: Proxy) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", proxy.port), timeout=60)
    client.settimeout(60)
    return client


def ask(client: socket.socket, data: bytes = b"hello") -> bytes:
    client.sendall(data)
    return hear(client, len(data))


def hear(client: socket.socket, size: int) -> bytes:
    heard = b""
    while len(heard) < size and (more := client.recv(size - len(heard))):
        heard += more
    return heard


def hears_nothing(client: socket.socket) -> bool:
    client.settimeout(0.3)
    try:
        client.recv(1)
    except TimeoutError:
        return True
    finally:
        client.settimeout(60)
    return False


def test_bytes_pass_in_order_and_so_does_the_end(echo: int) -> None:
    data = bytes(range(256)) * 20_000
    with Proxy("127.0.0.1", echo) as proxy, connect(proxy) as client:
        sending = threading.Thread(target=client.sendall, args=(data,))
        sending.start()
        assert hear(client, len(data)) == data
        sending.join()
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""


def test_a_delay_is_paid_in_both_directions(proxy: Proxy) -> None:
    with connect(proxy) as client:
        ask(client)
        proxy.delay(0.2)
        began = time.monotonic()
        assert ask(client) == b"hello"
        assert time.monotonic() - began >= 0.4
        proxy.clear()
        assert ask(client) == b"hello"


def test_what_is_cut_arrives_late_and_whole(proxy: Proxy) -> None:
    with connect(proxy) as client:
        ask(client)
        proxy.cut()
        client.sendall(b"late")
        with connect(proxy) as another:
            another.sendall(b"new")
            assert hears_nothing(client) and hears_nothing(another)
            proxy.restore()
            assert hear(client, 4) == b"late"
            assert hear(another, 3) == b"new"


def test_a_cut_hides_that_the_server_has_gone(proxy: Proxy, echo: int) -> None:
    with connect(proxy) as client:
        ask(client)
        proxy.cut()
        client.shutdown(socket.SHUT_WR)
        assert hears_nothing(client)
        proxy.restore()
        assert client.recv(1) == b""


def test_what_is_lost_in_a_cut_takes_its_connection_along(proxy: Proxy) -> None:
    with connect(proxy) as client:
        ask(client)
        proxy.cut()
        client.sendall(b"lost")
        proxy.restore(lost=True)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with connect(proxy) as client:
        assert ask(client) == b"hello"


def test_refused_means_no_connection_old_or_new(proxy: Proxy) -> None:
    with connect(proxy) as client:
        ask(client)
        proxy.refuse()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
    proxy.restore()
    with connect(proxy) as client:
        assert ask(client) == b"hello"


def test_a_server_that_is_away_ends_the_connection() -> None:
    with Proxy("127.0.0.1", free_port()) as proxy, connect(proxy) as client:
        assert client.recv(1) == b""


def frame(api_key: int, correlation: int, body: bytes = b"") -> bytes:
    """A request; the echo of one is no response, so its first fields are read as one below."""
    return struct.pack(">ihhi", 8 + len(body), api_key, 0, correlation) + body


@given(st.lists(st.binary(max_size=40), max_size=8), st.data())
def test_frames_are_found_however_the_stream_is_cut(
    bodies: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(frame(26, number, body) for number, body in enumerate(bodies))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    frames, found, passed = Frames(struct.Struct(">ihhi")), [], b""
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        for head, part in frames.split(stream[begin:end]):
            passed += part
            if head is not None:
                found.append(head[3])
    assert found == list(range(len(bodies)))
    assert passed == stream


class Broker:
    """Answers every request with its correlation id and a body, however many come at once."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            with client, suppress(ConnectionError):
                while len(head := hear(client, 12)) == 12:
                    size, _, _, correlation = struct.unpack(">ihhi", head)
                    hear(client, size - 8)
                    client.sendall(struct.pack(">ii", 9, correlation) + b"body!")


@pytest.fixture
def broker() -> Iterator[KafkaProxy]:
    broker = Broker()
    with broker.server, KafkaProxy("127.0.0.1", broker.port) as proxy:
        yield proxy
        broker.server.shutdown(socket.SHUT_RDWR)


def answer(client: socket.socket) -> int:
    size, correlation = struct.unpack(">ii", hear(client, 8))
    assert hear(client, size - 4) == b"body!"
    return int(correlation)


def test_a_response_is_dropped_by_its_kind_and_so_often(broker: KafkaProxy) -> None:
    with connect(broker) as client:
        rule = broker.on_response({ApiKey.END_TXN}, Drop(), times=1)
        client.sendall(frame(ApiKey.PRODUCE, 1) + frame(ApiKey.END_TXN, 2, b"x" * 100))
        client.sendall(frame(ApiKey.PRODUCE, 3) + frame(ApiKey.END_TXN, 4))
        assert [answer(client) for _ in range(3)] == [1, 3, 4]
        assert rule.fired == 1


def test_a_response_is_dropped_with_its_connection(broker: KafkaProxy) -> None:
    with connect(broker) as client:
        broker.on_response({ApiKey.END_TXN}, Drop(close=True))
        client.sendall(frame(ApiKey.PRODUCE, 1))
        assert answer(client) == 1
        client.sendall(frame(ApiKey.END_TXN, 2))
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    broker.clear()
    with connect(broker) as client:
        client.sendall(frame(ApiKey.END_TXN, 3))
        assert answer(client) == 3


def test_a_delayed_response_comes_later_and_in_order(broker: KafkaProxy) -> None:
    with connect(broker) as client:
        broker.on_response({ApiKey.END_TXN}, Delay(0.5))
        client.sendall(frame(ApiKey.PRODUCE, 1))
        began = time.monotonic()
        client.sendall(frame(ApiKey.END_TXN, 2) + frame(ApiKey.PRODUCE, 3))
        assert answer(client) == 1
        assert answer(client) == 2
        assert time.monotonic() - began >= 0.45
        assert answer(client) == 3


@pytest.mark.kafka
def test_transactions_of_a_real_client_with_a_commit_whose_response_is_lost(
    tmp_path: Path,
) -> None:
    port = free_port()
    with (
        LocalKafka(tmp_path / "kafka", advertised=f"127.0.0.1:{port}") as kafka,
        KafkaProxy("127.0.0.1", kafka.port, port) as proxy,
    ):
        producer = Producer({"bootstrap.servers": proxy.address, "transactional.id": "t"})
        producer.init_transactions(60)

        def transaction(value: bytes) -> None:
            producer.begin_transaction()
            producer.produce("notes", value, partition=0)
            producer.commit_transaction(60)

        transaction(b"one")
        lost = proxy.on_response({ApiKey.END_TXN}, Drop(close=True), times=1)
        transaction(b"two")  # librdkafka asks again, on a new connection
        assert lost.fired == 1
        slow = proxy.on_response({ApiKey.ADD_PARTITIONS_TO_TXN}, Delay(1.0), times=1)
        began = time.monotonic()
        transaction(b"three")
        assert (slow.fired, time.monotonic() - began >= 1) == (1, True)
        proxy.cut()
        threading.Timer(2, proxy.restore).start()
        transaction(b"four")
        assert committed(proxy.address, 4) == [b"one", b"two", b"three", b"four"]


def committed(address: str, count: int) -> list[bytes | None]:
    consumer = Consumer(
        {"bootstrap.servers": address, "group.id": "reader", "isolation.level": "read_committed"}
    )
    consumer.assign([TopicPartition("notes", 0, 0)])
    found = [message.value() for message in consumer.consume(count, timeout=60)]
    consumer.close()
    return found
