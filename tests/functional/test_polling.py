"""Following many folds over real HTTP: writers, pollers and waiters at once, on both databases."""

from __future__ import annotations

import itertools
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from test_files import post_api
from test_files.examples import IRIS
from tests.effort import FACTOR
from tests.functional import profiles
from tests.functional.account import Account, check
from tests.functional.machine import Installation, installed
from tests.functional.service import PROJECT, wait_until
from tests.functional.tables import read_rows
from tests.unit.test_documentation import list_code_blocks

LAUNCH = (
    "import sys, django; django.setup(); "
    "from tests.functional.storm import main; main(sys.argv[1:])"
)
STORM_SECONDS = 3.0 * FACTOR  # a minute where the long forms are run
N_WRITERS = 4
N_FOLDS = 1000
FOLDS_OF_A_SUBMISSION = 5
N_POLLERS = 50
PAGE = PROJECT / "docs" / "api.md"

Profile = Callable[[], AbstractContextManager[Mapping[str, str]]]


def sqlite() -> AbstractContextManager[Mapping[str, str]]:
    return nullcontext({})


@pytest.fixture(
    scope="module", params=[sqlite, pytest.param(profiles.postgres, marks=pytest.mark.service)]
)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """A web server of two processes, without a worker: nobody runs anything."""
    profile: Profile = request.param
    folder = tmp_path_factory.mktemp("polling")
    with profile() as environment:
        own = dict(environment)
        own.setdefault("DATABASE_URL", f"sqlite:///{folder}/shared.sqlite3")
        with installed(folder, own) as site:
            site.start_web()
            yield site


_names = (f"poller{number}" for number in itertools.count())


@pytest.fixture
def account(site: Installation) -> Account:
    """One with a thousand folds that wait; nobody else has any left."""
    storm(site, "clean")
    account = site.make_account(next(_names))
    post_folds(account, account.post_example(IRIS))
    return account


def post_folds(account: Account, raw_data_id: int) -> None:
    code = {"classifier.py": post_api.encode_file(b"class Classifier: pass")}
    rows = {
        "train_is": post_api.encode_indices(range(80)),
        "test_is": post_api.encode_indices([80]),
    }
    bodies: list[dict[str, Any]] = []
    for number in range(N_FOLDS):
        body = {
            "databoard_sf_id": number,
            "databoard_s_id": number // FOLDS_OF_A_SUBMISSION,
            **rows,
        }
        if number % FOLDS_OF_A_SUBMISSION == 0:
            body |= {"raw_data": raw_data_id, "files": code}
        bodies.append(body)
    answers = check(account.send("POST", "submissionfold/bulk/?fields=state", bodies))
    assert Counter(answer["status"] for answer in answers) == {201: N_FOLDS}


def start_storm(site: Installation, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", LAUNCH, *words],
        cwd=PROJECT,
        env={**site.environment, "DJANGO_SETTINGS_MODULE": "datarun.settings"},
        stdout=subprocess.PIPE,
        text=True,
    )


def storm(site: Installation, *words: str) -> int:
    """Let a storm pass; return what it says it has done."""
    process = start_storm(site, *words)
    told, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return int(told)


def read_table(site: Installation, account: Account) -> dict[int, tuple[str, str]]:
    query = (
        "select databoard_sf_id, state, priority from runapp_submissionfold f "
        f"join auth_user u on u.id = f.owner_id where u.username = '{account.username}'"
    )
    url = site.environment["DATABASE_URL"]
    rows = read_rows(url if url.startswith("postgres") else url.removeprefix("sqlite:///"), query)
    return {number: (state, priority) for number, state, priority in rows}


def ask(account: Account, path: str, **options: Any) -> requests.Response:
    return requests.get(
        f"{account.host_url}runapp/{path}",
        auth=(account.username, account.password),
        timeout=60,
        **options,
    )


class Reader:
    """Follows the folds of an account by their changes."""

    def __init__(self, account: Account, *, limit: int | None = None) -> None:
        self._account = account
        self._cursor = "0"
        self._limit = {} if limit is None else {"limit": str(limit)}
        self.picture: dict[int, tuple[str, str]] = {}

    def read(self) -> int:
        """Read what has changed; return how many rows there were."""
        parameters = {
            "updated_since": self._cursor,
            "fields": "databoard_sf_id,state,priority",
            **self._limit,
        }
        n_rows, address = 0, "submissionfold/"
        while True:
            response = ask(self._account, address, params=parameters)
            rows = check(response)
            self.picture.update(
                {row["databoard_sf_id"]: (row["state"], row["priority"]) for row in rows}
            )
            n_rows += len(rows)
            self._cursor = response.headers["Datarun-Cursor"]
            if "next" not in response.links:
                return n_rows
            target = urlsplit(response.links["next"]["url"])
            address = f"{target.path.removeprefix('/runapp/')}?{target.query}"
            parameters = {}


def test_readers_keep_up_with_a_storm_of_writers(site: Installation, account: Account) -> None:
    readers = [Reader(account), Reader(account, limit=7)]
    for reader in readers:
        reader.read()
        assert len(reader.picture) == N_FOLDS
    writers = [
        start_storm(site, "change", str(STORM_SECONDS), str(seed)) for seed in range(N_WRITERS)
    ]

    n_read = 0
    while any(writer.poll() is None for writer in writers):
        n_read += sum(reader.read() for reader in readers)
    for reader in readers:
        reader.read()

    changes = [int(writer.communicate()[0]) for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * N_WRITERS
    assert min(changes) > 0
    assert n_read > 0
    table = read_table(site, account)
    assert [reader.picture == table for reader in readers] == [True, True]
    assert [reader.read() for reader in readers] == [0, 0]


def test_follower_of_the_page_is_told_of_each_change(site: Installation, account: Account) -> None:
    (block,) = [text for text in list_code_blocks(PAGE, "python") if "def follow" in text]
    names: dict[str, Any] = {}
    exec(block, names)
    following = names["follow"](account.credentials)

    first = list(itertools.islice(following, N_FOLDS))
    check(account.send("DELETE", "submissionfold/7/"))
    second = next(following)

    assert [row["databoard_sf_id"] for row in first] == list(range(N_FOLDS))
    assert second == {"databoard_sf_id": 7, "databoard_s": 1, "state": "ERROR", "new": True}


def test_pollers_share_what_is_new_without_overlap(site: Installation, account: Account) -> None:
    assert storm(site, "finish") == N_FOLDS

    def poll(_: int) -> list[int]:
        got: list[int] = []
        while True:
            rows = check(account.send("POST", "testpredictions/new/", {"limit": 37}))
            if not rows:
                return got
            got += [row["databoard_sf_id"] for row in rows]

    with ThreadPoolExecutor(2) as pool:
        shares = list(pool.map(poll, range(2)))

    assert all(shares)
    assert sorted(itertools.chain(*shares)) == list(range(N_FOLDS))


def test_poller_that_was_killed_while_reading_gets_its_rows_again(
    site: Installation, account: Account
) -> None:
    assert storm(site, "finish") == N_FOLDS
    hang_up_on(account, "POST", "testpredictions/new/", body=b'{"limit": 900}')

    wait_until(
        lambda: sum(not row["new"] for row in check(ask(account, "submissionfold-light/"))) >= 900,
        what="the folds count as handed out",
    )
    rest = check(account.send("POST", "testpredictions/new/", {}))
    taken = {row["databoard_sf_id"] for row in rest}
    lost = [number for number in range(N_FOLDS) if number not in taken]
    again = check(account.send("POST", "testpredictions/list/", {"list_submission_fold": lost}))

    assert len(lost) == 900
    assert [row["databoard_sf_id"] for row in again] == lost
    assert all(row["test_predictions"] for row in again)


def test_client_that_hangs_up_leaves_no_trace(site: Installation, account: Account) -> None:
    assert storm(site, "finish") == N_FOLDS

    for path in ("submissionfold/", "submissionfold/?limit=1000", "submissionfold-light/"):
        for _ in range(3):
            hang_up_on(account, "GET", path)

    assert len(check(ask(account, "submissionfold/"))) == N_FOLDS
    assert "Traceback" not in site.log


def hang_up_on(account: Account, method: str, path: str, *, body: bytes = b"") -> None:
    """Send a request, and go away in the middle of the answer."""
    address = urlsplit(account.host_url)
    head = requests.Request(
        method, f"{account.host_url}runapp/{path}", auth=(account.username, account.password)
    ).prepare()
    lines = [
        f"{method} {head.path_url} HTTP/1.1",
        f"Host: {address.netloc}",
        f"Authorization: {head.headers['Authorization']}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_waiters_leave_room_for_others_and_are_woken_at_once(
    site: Installation, account: Account
) -> None:
    cursor = ask(account, "submissionfold-light/").headers["Datarun-Cursor"]

    is_over = threading.Event()

    def wait(_: int) -> list[int]:
        """Wait for news, and come back when told to."""
        while not is_over.is_set():
            response = ask(
                account,
                "submissionfold-light/",
                params={"updated_since": cursor},
                headers={"Prefer": "wait=20"},
            )
            if rows := check(response):
                return [row["databoard_sf_id"] for row in rows]
            is_over.wait(float(response.headers.get("Retry-After", 0)))
        return []

    with ThreadPoolExecutor(N_POLLERS) as pool, ending(is_over):
        waiting = [pool.submit(wait, number) for number in range(N_POLLERS)]
        for _ in range(20):
            assert len(check(ask(account, "submissionfold-light/"))) == N_FOLDS
            assert check(account.send("POST", "testpredictions/new/", {})) == []
        assert [waiter.result() for waiter in waiting if waiter.done()] == []
        check(account.send("PATCH", "submissionfold/7/", {"priority": "H"}))
        answers = [waiter.result(60) for waiter in waiting]

    assert answers == [[7]] * N_POLLERS


@contextmanager
def ending(is_over: threading.Event) -> Iterator[None]:
    """End what runs besides, however the test ends."""
    try:
        yield
    finally:
        is_over.set()


def test_server_that_stops_lets_nobody_wait(site: Installation, account: Account) -> None:
    cursor = ask(account, "submissionfold-light/").headers["Datarun-Cursor"]

    def wait() -> requests.Response:
        return ask(
            account,
            "submissionfold-light/",
            params={"updated_since": cursor},
            headers={"Prefer": "wait=20"},
        )

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait)
        wait_until(lambda: count_connections(site) > 0, what="the request is held")
        site.machines.pop("web").stop()
        response = waiting.result(60)

    assert check(response) == []
    assert response.elapsed.total_seconds() < 20
    site.start_web()


def count_connections(site: Installation) -> int:
    """Return how many clients are connected to the web server."""
    part = site.machines["web"].find_part()
    if part is None:
        return 0
    return sum(
        connection.status == "ESTABLISHED"
        for process in (part, *part.children())
        for connection in process.net_connections("tcp")
        if connection.laddr.port == site.port
    )
