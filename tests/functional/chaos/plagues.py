"""What befalls a service: processes killed, servers stopped, hints lost and multiplied."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from random import Random

import psutil

from tests.functional.chaos.site import Site
from tests.functional.service import list_below

PAUSE_SECONDS = (0.1, 1.2)
# Of a broker or a database.
AWAY_SECONDS = (0.0, 2.5)

# What is to be done later to heal what was done, if anything.
Cure = Callable[[], None]
Plague = Callable[[Site, Random], Cure | None]


def kill_worker_tree(site: Site, random: Random) -> None:
    """Kill a worker with all that is below it, as a machine's sudden end does."""
    for worker in _choose(site.find_workers(), random):
        for process in [worker, *list_below(worker)]:
            kill(site, process)


def kill_worker(site: Site, random: Random) -> None:
    """Kill the main process of a worker only."""
    for worker in _choose(site.find_workers(), random):
        kill(site, worker)


def kill_slot(site: Site, random: Random) -> None:
    for slot in _choose(site.list_slots(), random):
        kill(site, slot)


def kill_keeper(site: Site, random: Random) -> None:
    for keeper in _choose(site.list_keepers(), random):
        kill(site, keeper)


def kill_launcher(site: Site, random: Random) -> None:
    """Kill the parent of a keeper that runs in a namespace: the slot, where there is none."""
    for keeper in _choose(site.list_keepers(), random):
        with suppress(psutil.NoSuchProcess):
            parent = keeper.parent()
            if parent is not None and parent not in site.find_workers():
                kill(site, parent)


def kill_child(site: Site, random: Random) -> None:
    """Kill a process of a run, or one that waits for a run."""
    for child in _choose(site.list_children(), random):
        kill(site, child)


def kill_web(site: Site, random: Random) -> None:
    web = site.find_web()
    if web is not None:
        for process in _choose([web, *list_below(web)], random):
            kill(site, process)


def purge(site: Site, random: Random) -> None:
    site.purge()


def flood(site: Site, random: Random) -> None:
    site.flood()


def stop_broker(site: Site, random: Random) -> Cure:
    return _stop("broker", None, site)


def kill_broker(site: Site, random: Random) -> Cure:
    return _stop("broker", signal.SIGKILL, site)


def stop_database(site: Site, random: Random) -> Cure:
    return _stop("postgres", None, site)


def crash_database(site: Site, random: Random) -> Cure:
    """Stop PostgreSQL as `pg_ctl -m immediate` does: it recovers when it is started."""
    return _stop("postgres", signal.SIGQUIT, site)


# Each deck is played once before it is shuffled and played again. What a whole worker's end is
# to a site with one worker must leave it the time to do something.
PROCESSES: list[Plague] = [
    kill_worker_tree,
    kill_worker,
    *[kill_slot] * 2,
    *[kill_keeper] * 2,
    kill_launcher,
    *[kill_child] * 4,
    kill_web,
    purge,
    flood,
]
SERVERS: list[Plague] = [stop_broker, kill_broker, stop_database, crash_database]


def rage(site: Site, random: Random, *, seconds: float, stopping: threading.Event) -> list[str]:
    """Let every plague come, again and again, for so long; return what was done.

    Each comes at least once, those at the queue to a broker that is there; at the end every
    server is there again.
    """
    deck = PROCESSES + (SERVERS if site.servers else [])
    told: list[str] = []
    cures: list[tuple[float, Cure]] = []
    end = time.monotonic() + seconds
    while not stopping.is_set() and (time.monotonic() < end or len(told) < len(deck)):
        if len(told) % len(deck) == 0:
            coming = random.sample(deck, len(deck))
        plague = coming[len(told) % len(deck)]
        site.look_around()
        told.append(f"{time.time():.3f} {plague.__name__}")
        cure = plague(site, random)
        if cure is not None:
            cures.append((time.monotonic() + random.uniform(*AWAY_SECONDS), cure))
        stopping.wait(random.uniform(*PAUSE_SECONDS))
        cures = _apply(cures, until=time.monotonic())
    _apply(cures, until=float("inf"))
    for server in site.servers.values():
        server.wait_until_it_answers()
    site.strike_again()
    site.look_around()
    return told


def _apply(cures: list[tuple[float, Cure]], *, until: float) -> list[tuple[float, Cure]]:
    for moment, cure in cures:
        if moment <= until:
            cure()
    return [(moment, cure) for moment, cure in cures if moment > until]


def _stop(name: str, number: signal.Signals | None, site: Site) -> Cure:
    server = site.servers[name]
    if server.process is not None:
        server.stop(number)
    return partial(_start, site, name)


def _start(site: Site, name: str) -> None:
    server = site.servers[name]
    if server.process is None:
        server.start()


def _choose(processes: list[psutil.Process], random: Random) -> list[psutil.Process]:
    """Return one of the processes, or none where there is none."""
    return [random.choice(sorted(processes, key=lambda process: process.pid))] if processes else []


def kill(site: Site, process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        process.kill()
        site.n_killed += 1
