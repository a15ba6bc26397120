"""A real web server and clients that send slowly, too much or by halves, over bare sockets."""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.functional.account import Account
from tests.functional.service import DEADLINE_SECONDS, HOST, Service, serving

BODY_SECONDS = 2
THREADS = 2
MAX_BODY = 2**20


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    environment = {
        "DATARUN_SLOTS": "0",
        "DATARUN_BODY_SECONDS": str(BODY_SECONDS),
        "DATARUN_WEB_THREADS": str(THREADS),
        "DATARUN_WEB_WAITERS": "0",
        "DATARUN_MAX_BODY_MB": "1",
    }
    with serving(tmp_path_factory.mktemp("slow"), environment) as service:
        yield service


@pytest.fixture(scope="module")
def account(service: Service) -> Account:
    return service.make_account("ada")


@contextmanager
def connecting(service: Service) -> Iterator[socket.socket]:
    with socket.create_connection((HOST, service.port), timeout=DEADLINE_SECONDS) as connection:
        yield connection


def make_head(account: Account, *, length: int, path: str = "tokens/") -> bytes:
    credentials = base64.b64encode(f"{account.username}:{account.password}".encode()).decode()
    return (
        f"POST /runapp/{path} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Basic {credentials}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def read_answer(connection: socket.socket) -> tuple[int, dict[str, object]]:
    """Return status and body of an answer, and leave the connection as it is."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += _receive(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    while len(body) < int(fields[b"content-length"]):
        body += _receive(connection)
    return int(head.split()[1]), json.loads(body)


def _receive(connection: socket.socket) -> bytes:
    data = connection.recv(65_536)
    assert data, "the connection was closed without an answer"
    return data


def trickle(connection: socket.socket, text: bytes) -> float:
    """Send a byte now and then, until the server has answered or closed; return for how long."""
    begun = time.monotonic()
    connection.settimeout(0.2)
    for place in range(len(text)):
        with suppress(TimeoutError):
            if connection.recv(1, socket.MSG_PEEK) is not None:
                break
        connection.send(text[place : place + 1])
    connection.settimeout(DEADLINE_SECONDS)
    return time.monotonic() - begun


def is_closed(connection: socket.socket) -> bool:
    """Read what is left of a connection until its end."""
    with suppress(ConnectionResetError):
        while connection.recv(65_536):
            pass
    return True


def test_body_that_trickles_is_answered_and_its_connection_closed(
    service: Service, account: Account
) -> None:
    with connecting(service) as connection:
        connection.sendall(make_head(account, length=1000))
        seconds = trickle(connection, b" " * 1000)
        status, answer = read_answer(connection)

        assert status == 408
        assert answer["errors"][0]["code"] == "timeout"  # type: ignore[index]
        assert BODY_SECONDS - 0.5 < seconds < BODY_SECONDS + 5
        assert is_closed(connection)


def test_head_that_trickles_is_cut_off(service: Service) -> None:
    with connecting(service) as connection:
        seconds = trickle(connection, b"GET /" + b"x" * 1000)

        assert BODY_SECONDS - 0.5 < seconds < BODY_SECONDS + 5
        assert is_closed(connection)


def test_second_head_of_a_connection_is_timed_anew(service: Service, account: Account) -> None:
    body = json.dumps({"name": "kept alive"}).encode()
    with connecting(service) as connection:
        connection.sendall(make_head(account, length=len(body)) + body)
        first, _ = read_answer(connection)
        time.sleep(BODY_SECONDS + 0.5)  # idle is not slow
        connection.sendall(make_head(account, length=2) + b"{}")
        second, _ = read_answer(connection)
        seconds = trickle(connection, b"GET /" + b"x" * 1000)

        assert (first, second) == (201, 400)
        assert BODY_SECONDS - 0.5 < seconds < BODY_SECONDS + 5


def test_form_that_trickles_without_an_account_is_cut_off(service: Service) -> None:
    head = (
        f"POST /admin/login/ HTTP/1.1\r\nHost: {HOST}\r\nCookie: csrftoken={'a' * 32}\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 1000\r\n\r\n"
    )
    with connecting(service) as connection:
        connection.sendall(head.encode())
        trickle(connection, b"x" * 1000)

        assert b" 403 " in connection.recv(65_536).split(b"\r\n")[0]
        assert is_closed(connection)


def test_clients_that_trickle_on_every_thread_keep_nobody_out_for_long(
    service: Service, account: Account
) -> None:
    with connecting(service) as first, connecting(service) as second:
        for connection in (first, second):
            connection.sendall(make_head(account, length=1000) + b"{")

        assert account.send("GET", "rawdata/").status_code == 200


def test_clients_that_leave_their_side_open_hold_up_nobody(
    service: Service, account: Account
) -> None:
    request = f"GET /runapp/ HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode()
    begun = time.monotonic()
    with ExitStack() as stack:
        connections = [stack.enter_context(connecting(service)) for _ in range(4)]
        for connection in connections:
            connection.sendall(request)
        assert all(map(is_closed, connections))  # on the other side only

        assert account.send("GET", "rawdata/").status_code == 200

    assert time.monotonic() - begun < 5  # gunicorn waits for two seconds, one after another


def test_body_over_the_limit_is_refused_before_it_is_sent(
    service: Service, account: Account
) -> None:
    with connecting(service) as connection:
        connection.sendall(make_head(account, length=MAX_BODY + 1))
        status, answer = read_answer(connection)

        assert status == 413
        assert answer["errors"][0]["code"] == "too_large"  # type: ignore[index]
        # What was announced and never sent is not taken for the next request.
        connection.sendall(b"GET /runapp/ HTTP/1.1\r\n\r\n")
        assert is_closed(connection)


def test_client_that_sends_all_of_a_body_over_the_limit_reads_its_answer(
    service: Service, account: Account
) -> None:
    with connecting(service) as connection:
        connection.sendall(make_head(account, length=MAX_BODY + 1) + b" " * 10_000)

        assert read_answer(connection)[0] == 413


def test_client_that_goes_away_in_the_middle_leaves_no_trace(
    service: Service, account: Account
) -> None:
    with connecting(service) as connection:
        connection.sendall(make_head(account, length=1000) + b'{"name":')

    assert account.send("GET", "rawdata/").status_code == 200
    assert "Traceback" not in service.log


def test_body_that_is_whole_json_before_its_end_is_refused(
    service: Service, account: Account
) -> None:
    with connecting(service) as connection:
        connection.sendall(make_head(account, length=300) + b'{"name": "half"}')
        connection.shutdown(socket.SHUT_WR)
        status, answer = read_answer(connection)

    assert (status, answer["detail"]) == (400, "The body ended too early.")


@pytest.mark.parametrize("path", ["tokens/", "submissionfold/bulk/"])
def test_body_in_chunks_is_refused_and_not_taken_for_none(
    service: Service, account: Account, path: str
) -> None:
    head = make_head(account, length=0, path=path)
    in_chunks = head.replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    with connecting(service) as connection:
        connection.sendall(in_chunks + b"2\r\n{}\r\n0\r\n\r\n")
        status, answer = read_answer(connection)

    assert status == 411
    assert answer["errors"][0]["code"] == "length_required"  # type: ignore[index]


def test_body_at_a_fair_rate_may_take_longer(
    service: Service, account: Account, tmp_path: Path
) -> None:
    body = json.dumps({"name": "x" * 400_000}).encode()
    with connecting(service) as connection:
        connection.sendall(make_head(account, length=len(body)))
        for start in range(0, len(body), 40_000):
            connection.sendall(body[start : start + 40_000])
            time.sleep(0.4)

        assert read_answer(connection)[0] == 400
