"""The filesystem broker, through real kombu connections in a folder of the test."""

from __future__ import annotations

import multiprocessing
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from kombu import Connection, Exchange, Queue
from kombu.asynchronous import Hub

from datarun.filesystem_broker import Channel, Transport

QUEUE = Queue("hints", Exchange("hints", type="direct"), routing_key="hints")
DEADLINE_SECONDS = 30


def connect(home: Path) -> Connection:
    folder = str(home / "broker" / "messages")
    return Connection(
        "filesystem://",
        transport="datarun.filesystem_broker:Transport",
        transport_options={
            "data_folder_in": folder,
            "data_folder_out": folder,
            "control_folder": str(home / "broker" / "control"),
            "store_processed": False,
            "polling_interval": 0.005,
        },
    )


def channel_of(connection: Connection) -> Channel:
    channel = connection.default_channel
    assert isinstance(channel, Channel)
    return channel


def publish(connection: Connection, *bodies: Any) -> None:
    producer = connection.Producer()
    for body in bodies:
        producer.publish(
            body, exchange=QUEUE.exchange, routing_key="hints", declare=[QUEUE], retry=False
        )


def consume(connection: Connection, *, quiet_seconds: float = 0.1) -> list[Any]:
    """Return the bodies that arrive until none did for a while."""
    return list(_iterate(connection, quiet_seconds=quiet_seconds))


def _iterate(connection: Connection, *, quiet_seconds: float) -> Iterator[Any]:
    bodies: list[Any] = []

    def remember(body: Any, message: Any) -> None:
        bodies.append(body)
        message.ack()

    with connection.Consumer([QUEUE], callbacks=[remember]):
        while True:
            try:
                connection.drain_events(timeout=quiet_seconds)
            except TimeoutError:
                return
            yield from bodies
            bodies.clear()


def messages_of(home: Path) -> list[Path]:
    return sorted((home / "broker" / "messages").iterdir())


def test_settings_of_the_service_pick_this_transport(tmp_path: Path) -> None:
    app = Celery("probe", set_as_current=False)
    folder = str(tmp_path / "messages")
    app.conf.update(
        broker_url="filesystem://",
        broker_transport="datarun.filesystem_broker:Transport",
        broker_transport_options={
            "data_folder_in": folder,
            "data_folder_out": folder,
            "control_folder": str(tmp_path / "control"),
        },
    )

    with app.connection_for_write() as writing, app.connection_for_read() as reading:
        assert type(writing.transport) is Transport
        assert type(reading.transport) is Transport
        assert type(writing.default_channel) is Channel


def test_messages_arrive_in_order_and_leave_no_file(tmp_path: Path) -> None:
    with connect(tmp_path) as connection:
        publish(connection, "first", {"second": 2}, ["third"])

        bodies = consume(connection)

    assert bodies == ["first", {"second": 2}, ["third"]]
    assert messages_of(tmp_path) == []


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b'{"body": "IiI=", "prop', id="cut"),
        pytest.param(b"\xff\xfe", id="not-text"),
        pytest.param(b"[]", id="not-a-message"),
        pytest.param(b'{"body": "IiI="}', id="no-properties"),
        pytest.param(b'{"properties": {}}', id="no-delivery-tag"),
    ],
)
def test_broken_message_is_dropped_and_the_next_one_arrives(tmp_path: Path, content: bytes) -> None:
    with connect(tmp_path) as connection:
        publish(connection, "whole")
        [whole] = messages_of(tmp_path)
        # Sorts before every other message, so that it is read first.
        (whole.parent / "0_broken.hints.msg").write_bytes(content)

        bodies = consume(connection)

    assert bodies == ["whole"]
    assert messages_of(tmp_path) == []


def test_message_of_another_queue_stays(tmp_path: Path) -> None:
    with connect(tmp_path) as connection:
        publish(connection, "mine")
        other = messages_of(tmp_path)[0].parent / "0_x.others.msg"
        other.write_bytes(b"")

        bodies = consume(connection)

    assert bodies == ["mine"]
    assert messages_of(tmp_path) == [other]


def test_message_is_never_seen_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    replace = os.replace

    def look_and_replace(source: Path, target: Path) -> None:
        seen.append([path.name for path in messages_of(tmp_path) if path.suffix == ".msg"])
        replace(source, target)

    with connect(tmp_path) as connection:
        QUEUE(channel_of(connection)).declare()
        monkeypatch.setattr(os, "replace", look_and_replace)
        publish(connection, "hint")

    assert seen == [[]]  # the content was complete before the name existed


def test_stale_messages_and_drafts_are_swept_at_channel_start(tmp_path: Path) -> None:
    with connect(tmp_path) as connection:
        publish(connection, "old", "new")
    old, new = messages_of(tmp_path)
    draft = old.with_name("0_x.hints.msg.y.draft")
    draft.write_bytes(b"")
    for path in (old, draft):
        os.utime(path, (time.time() - 61, time.time() - 61))

    with connect(tmp_path) as connection:
        channel_of(connection)

        assert messages_of(tmp_path) == [new]


def test_publisher_sweeps_when_nobody_consumes(tmp_path: Path) -> None:
    with connect(tmp_path) as connection:
        publish(connection, "old")
        [old] = messages_of(tmp_path)
        os.utime(old, (time.time() - 61, time.time() - 61))
        channel_of(connection)._next_sweep = time.monotonic() - 1

        publish(connection, "new")

    assert len(messages_of(tmp_path)) == 1
    assert not old.exists()


def test_folders_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with connect(tmp_path) as connection:
            publish(connection, "hint")
    finally:
        os.umask(before)

    for folder in ("broker", "broker/messages", "broker/control"):
        assert stat.S_IMODE((tmp_path / folder).stat().st_mode) == 0o700


def test_cut_exchange_table_is_written_again(tmp_path: Path) -> None:
    with connect(tmp_path) as connection:
        QUEUE(channel_of(connection)).declare()
    (tmp_path / "broker" / "control" / "hints.exchange").write_bytes(b"")

    with connect(tmp_path) as connection:
        publish(connection, "hint")

        assert consume(connection) == ["hint"]


def test_deleted_queue_leaves_the_exchange_table(tmp_path: Path) -> None:
    with connect(tmp_path) as connection:
        queue = QUEUE(channel_of(connection))
        queue.declare()
        publish(connection, "hint")

        queue.delete()

        assert channel_of(connection).get_table("hints") == []
    assert messages_of(tmp_path) == []


def run_together(*targets: tuple[Callable[..., None], tuple[Any, ...]]) -> None:
    """Run each in a process of its own; every one must end well before the deadline."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=target, args=args) for target, args in targets]
    for process in processes:
        process.start()
    deadline = time.monotonic() + DEADLINE_SECONDS
    try:
        for process in processes:
            process.join(max(deadline - time.monotonic(), 0))
        assert [process.exitcode for process in processes] == [0] * len(processes)
    finally:
        for process in processes:
            process.kill()


def produce_numbers(home: Path, numbers: range) -> None:
    with connect(home) as connection:
        publish(connection, *numbers)


def consume_numbers(home: Path, result: Path, finished: Any, expected: int) -> None:
    """Write the numbers to a file; end when all consumers together have all of them."""
    with connect(home) as connection, result.open("w") as file:
        while finished.value < expected:
            for number in _iterate(connection, quiet_seconds=0.05):
                print(number, file=file)
                with finished.get_lock():
                    finished.value += 1


def test_two_producers_and_two_consumers_deliver_each_message_once(tmp_path: Path) -> None:
    finished = multiprocessing.get_context("spawn").Value("i", 0)
    results = [tmp_path / "one", tmp_path / "two"]

    run_together(
        (produce_numbers, (tmp_path, range(250))),
        (produce_numbers, (tmp_path, range(250, 500))),
        *((consume_numbers, (tmp_path, result, finished, 500)) for result in results),
    )

    delivered = [int(line) for result in results for line in result.read_text().split()]
    assert sorted(delivered) == list(range(500))
    assert messages_of(tmp_path) == []


def bind_queues(home: Path, prefix: str, count: int) -> None:
    """Bind queues to one exchange while a publisher's table must be whole at every moment."""
    with connect(home) as connection:
        channel = channel_of(connection)
        for number in range(count):
            name = f"{prefix}{number}"
            Queue(name, Exchange("hints", type="direct"), routing_key=name)(channel).declare()
            assert name in {entry.queue for entry in channel.get_table("hints")}


def test_exchange_table_keeps_every_binding_of_a_race(tmp_path: Path) -> None:
    run_together(*((bind_queues, (tmp_path, prefix, 60)) for prefix in "abc"))

    with connect(tmp_path) as connection:
        table = channel_of(connection).get_table("hints")
    assert {entry.queue for entry in table} == {f"{x}{n}" for x in "abc" for n in range(60)}


def test_quiet_connection_times_out_like_kombus_own(tmp_path: Path) -> None:
    with (
        connect(tmp_path) as connection,
        connection.Consumer([QUEUE]),
        pytest.raises(TimeoutError),
    ):
        connection.drain_events(timeout=0.01)


def test_event_loop_gets_messages_as_they_come(tmp_path: Path) -> None:
    hub, received = Hub(), []
    with connect(tmp_path) as connection, connection.Consumer([QUEUE]) as consumer:
        consumer.register_callback(lambda body, message: received.append(body))
        connection.transport.register_with_event_loop(connection.connection, hub)
        deadline = time.monotonic() + DEADLINE_SECONDS

        for number in range(3):
            connection.Producer().publish(number, exchange="hints", routing_key="hints")
            while number not in received:
                assert time.monotonic() < deadline
                hub.fire_timers()

    assert received == [0, 1, 2]
