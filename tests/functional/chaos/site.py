"""A service of either profile as the chaos sees it: its processes, its tables and its broker."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.functional.account import Account
from tests.functional.instances import Instance
from tests.functional.machine import installed
from tests.functional.service import (
    is_keeper,
    list_below,
    list_owned,
    list_slots,
    manage,
    serving,
    wait_until,
)
from tests.functional.tables import Row, read_rows

CHAOS = {
    "DATARUN_LEASE_SECONDS": "4",
    "DATARUN_HEARTBEAT_SECONDS": "1",
    # Whoever is killed that often has bad luck and is not at fault.
    "DATARUN_MAX_ATTEMPTS": "1000",
}
FLOOD = 100
RING = (
    "from runapp.scheduling import dispatch\nassert all([dispatch.publish() for _ in range({n})])"
)
PURGE = (
    "from datarun.celery import app\n"
    "with app.connection_for_write() as connection: app.control.purge(connection=connection)"
)


@dataclass
class Site:
    """A running service, and who is to suffer."""

    name: str
    folder: Path
    host_url: str
    environment: Mapping[str, str]
    # A path of SQLite or a URL of PostgreSQL.
    database: str
    n_workers: int
    find_workers: Callable[[], list[psutil.Process]]
    find_web: Callable[[], psutil.Process | None]
    make_account: Callable[[str], Account]
    servers: Mapping[str, Instance] = field(default_factory=dict)
    # Everything that was ever seen to live here.
    seen: set[psutil.Process] = field(default_factory=set)
    n_killed: int = 0
    # Blows at the queue that have met a broker, and those that have not yet.
    landed: set[str] = field(default_factory=set)
    missed: set[str] = field(default_factory=set)

    def list_slots(self) -> list[psutil.Process]:
        """Return the pool processes of all workers."""
        return [slot for worker in self.find_workers() for slot in list_slots(worker)]

    def list_keepers(self) -> list[psutil.Process]:
        """Return the warm processes of all workers."""
        below = [process for worker in self.find_workers() for process in list_below(worker)]
        return [process for process in below if is_keeper(process)]

    def list_children(self) -> list[psutil.Process]:
        """Return the sealed children of all keepers, spares as well."""
        return [child for keeper in self.list_keepers() for child in list_below(keeper)]

    def look_around(self) -> None:
        """Remember who lives."""
        self.seen.update(list_owned(self.folder))
        for worker in self.find_workers():
            self.seen.update(list_below(worker))

    def read(self, query: str) -> list[Row]:
        """Ask the database itself."""
        return read_rows(self.database, query)

    def flood(self) -> None:
        """Publish a hundred hints for nothing."""
        self._strike(RING.format(n=FLOOD))

    def purge(self) -> None:
        """Throw away every hint."""
        self._strike(PURGE)

    def strike_again(self) -> None:
        """Repeat the blows that have only met a broker that was away; now they must land."""
        for code in self.missed - self.landed:
            self._run(code)

    def _strike(self, code: str) -> None:
        try:
            self._run(code)
        except AssertionError:
            self.missed.add(code)  # the broker may be away just then, which is nobody's fault
        else:
            self.landed.add(code)

    def _run(self, code: str) -> None:
        manage("shell", "-c", code, environment=self.environment, folder=self.folder)

    def wait_until_workers_are_ready(self) -> None:
        """Wait until every worker has tested itself and may take work."""
        query = "select name from runapp_worker where promises is not null"
        wait_until(lambda: len(self.read(query)) == self.n_workers, what="the workers are ready")


@contextmanager
def embedded(folder: Path, environment: Mapping[str, str]) -> Iterator[Site]:
    """Serve with SQLite and the broker of files."""
    with serving(folder, environment, is_calm=False) as service:
        yield Site(
            name="embedded",
            folder=folder,
            host_url=service.host_url,
            environment=service.environment,
            database=str(service.home / "datarun.sqlite3"),
            n_workers=1,
            find_workers=lambda: [w for w in [service.find_part("celery")] if w is not None],
            find_web=lambda: service.find_part("gunicorn"),
            make_account=service.make_account,
        )


@contextmanager
def production(
    folder: Path, environment: Mapping[str, str], servers: Mapping[str, Instance]
) -> Iterator[Site]:
    """Serve with a web server and two workers, on servers that may be stopped as well."""
    urls = {
        "DATABASE_URL": servers["postgres"].url,
        "CELERY_BROKER_URL": servers["broker"].url,
    }
    with installed(folder, {**urls, **environment}) as site:
        site.start_web()
        names = ("one", "two")
        for name in names:
            site.start_worker(name)
        parts = [site.machines[name] for name in names]
        yield Site(
            name="production",
            folder=folder,
            host_url=site.host_url,
            environment=site.environment,
            database=servers["postgres"].url,
            n_workers=len(names),
            find_workers=lambda: [w for w in (part.find_part() for part in parts) if w],
            find_web=site.machines["web"].find_part,
            make_account=site.make_account,
            servers=servers,
        )
