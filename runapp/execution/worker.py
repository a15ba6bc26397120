"""The life of a Celery worker: one pool child is one slot with one keeper.

The main process tests at its start what it promises of every run; until the slots learn that it
is enough, through memory that they share, they take no work. It beats, puts lost work back and
rings for what waits while slots are idle, so that a lost or unpublished hint delays a fold by about
a second and no more. On shutdown it tells the slots in the same way.
"""

from __future__ import annotations

import logging
import mmap
import os
import struct
import threading
import time
from pathlib import Path
from typing import Any

from celery import bootsteps, current_app, signals
from django.conf import settings
from django.db import Error, connections

from datarun.forks import holding_up_forks
from runapp.audit.record import speak_for_worker
from runapp.changes.counters import KEEPER_STARTS, count
from runapp.common.log_context import following
from runapp.common.retry import Absence, forget_broken_connections
from runapp.execution import registration
from runapp.execution.fitness import (
    examine_worker,
    is_fit,
    make_supervisor,
    report_fitness,
    warn_if_lowered,
)
from runapp.execution.heartbeat import ThreadedHeartbeat
from runapp.execution.step import Detours, Step, run_next
from runapp.runner.host import Host, survey_host
from runapp.runner.selftest.promises import Promise, SelfTest
from runapp.runner.supervisor import Supervisor
from runapp.scheduling import dispatch
from runapp.scheduling.claims import count_work, list_holders, reap_expired, return_all
from runapp.scheduling.fair_share import decay_shares

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0
STOP_SECONDS = 5.0
# Less than the second that the supervisor waits for: the first signal may reach us late.
SECOND_WISH_SECONDS = 0.5
# A worker that is not fit tests itself again: often at first, as the cause may pass soon.
FIRST_RETEST_SECONDS = 15.0
MOST_RETEST_SECONDS = 600.0


class Farewell:
    """When to leave, in memory that the slots share with the main process.

    Holds a moment of the monotonic clock, which all processes of a machine share; 0 is "stay".
    """

    _MOMENT = struct.Struct("<d")

    def __init__(self) -> None:
        # Anonymous and shared, mmap(2): made before the pool forks, seen by every slot.
        self._memory = mmap.mmap(-1, self._MOMENT.size)
        self._announced_at = 0.0

    def announce(self, *, grace_seconds: float) -> None:
        """Let slots finish what they run, for so long; a second call, later, means now.

        One that comes at once is the same wish: a terminal's Ctrl-C and the supervisor's SIGTERM
        arrive together.
        """
        now = time.monotonic()
        if not self.is_announced():
            self._MOMENT.pack_into(self._memory, 0, now + grace_seconds)
            self._announced_at = now
        elif now - self._announced_at > SECOND_WISH_SECONDS:
            self._MOMENT.pack_into(self._memory, 0, now)

    def is_announced(self) -> bool:
        return self._read() > 0

    def is_due(self) -> bool:
        return 0 < self._read() <= time.monotonic()

    def _read(self) -> float:
        moment: float = self._MOMENT.unpack_from(self._memory)[0]
        return moment


class Fitness:
    """Which promises the worker keeps, in memory that the slots share with the main process.

    One bit for each promise, in the order of `Promise`, and one that says that they are known.
    """

    _BITS = struct.Struct("<H")
    _IS_KNOWN = 1 << 15

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, self._BITS.size)

    def announce(self, kept: frozenset[Promise]) -> None:
        bits = sum(1 << place for place, promise in enumerate(Promise) if promise in kept)
        self._BITS.pack_into(self._memory, 0, bits | self._IS_KNOWN)

    def read(self) -> frozenset[Promise] | None:
        """Return what is kept, None while it is not known."""
        bits = self._BITS.unpack_from(self._memory)[0]
        if not bits & self._IS_KNOWN:
            return None
        return frozenset(promise for place, promise in enumerate(Promise) if bits >> place & 1)


farewell = Farewell()
fitness = Fitness()
_host: Host | None = None
_supervisor: Supervisor | None = None
_self_test: SelfTest | None = None
_beaten_at = 0.0
_database = Absence()
# Of a slot: a storage that is away, or a runner that cannot begin.
_hindrance = Absence()
_detours = Detours()
_counted_keepers: dict[str, int] = {}
_ticker: threading.Thread | None = None
_stopping = threading.Event()


def run_until_idle() -> None:
    """Run splits and folds, one after the other, until nothing waits or the worker leaves.

    A worker that does not keep what is required, or does not know yet, takes nothing: the main
    process rings again once it knows. So it does once a database is back that a slot has missed.
    """
    try:
        with following(task=_get_task_id()):
            _run_on()
    except Error as error:
        # The main process rings again once the database answers; what was held comes back.
        logger.warning("the slot pauses, as the database is away: %s", error)
        forget_broken_connections()


def _run_on() -> None:
    while _may_work():
        step = _run_next()
        _count_keepers()
        if step is Step.IDLE and not _detours.end():
            return
        if step is Step.WORKED:
            _hindrance.end()
        elif step is Step.HINDERED:
            logger.warning("the slot pauses for %.1f s", _hindrance.lengthen())


def _count_keepers() -> None:
    """Count the keepers that were started since the last time."""
    for reason, started in _get_supervisor().n_keepers.items():
        if started > _counted_keepers.get(reason, 0):
            count(KEEPER_STARTS, started - _counted_keepers.get(reason, 0), reason=reason)
            _counted_keepers[reason] = started


def _get_task_id() -> str:
    task = current_app.current_worker_task
    return "" if task is None else str(task.request.id)


def _may_work() -> bool:
    is_able = is_fit(fitness.read()) and _hindrance.is_over_or_due()
    return is_able and not farewell.is_announced()


def _run_next() -> Step:
    return run_next(
        worker=_name_slot(),
        supervisor=_get_supervisor(),
        is_leaving=farewell.is_due,
        heartbeat=ThreadedHeartbeat,
        detours=_detours,
    )


def _get_supervisor() -> Supervisor:
    global _supervisor
    if _supervisor is None:
        _supervisor = make_supervisor(host=_host)
    return _supervisor


def _name_slot() -> str:
    task = current_app.current_worker_task
    host = str(task.request.hostname) if task is not None else "local"
    return f"{_name_pool(host, os.getppid())}/{os.getpid()}"


def _name_pool(host: str, pid: int) -> str:
    """Return what the names of a worker's slots begin with; by its process, as names may clash."""
    return f"{host}/{pid}"


@signals.worker_init.connect
def look_around(**_: Any) -> None:
    """Find out what the machine offers, and clear away what a killed worker has left."""
    global _host
    speak_for_worker()
    # Before the pool forks: the slots share the answer, and processes may still be moved.
    _host = survey_host(may_move=True)


@signals.worker_process_init.connect
def warm_up(**_: Any) -> None:
    """Start the slot's keeper while nothing waits yet."""
    _get_supervisor().warm_up()


@signals.worker_process_shutdown.connect
def close(**_: Any) -> None:
    if _supervisor is not None:
        _supervisor.close()


class Ticker(bootsteps.StartStopStep):
    """Begins to tick once there is a pool; whether the broker answers does not matter.

    In a thread of its own: Celery's timer stands still while the broker is away.
    """

    requires = ("celery.worker.components:Pool",)

    def start(self, parent: Any) -> None:
        global _ticker
        names = {"name": parent.hostname, "slots": parent.pool.num_processes}
        _ticker = threading.Thread(target=_tick_on, kwargs=names, name="tick", daemon=True)
        _ticker.start()


@signals.worker_shutting_down.connect
def announce_farewell(**_: Any) -> None:
    # Runs in a signal handler: nothing but the flag.
    farewell.announce(grace_seconds=settings.SHUTDOWN_GRACE_SECONDS)


@signals.worker_shutdown.connect
def leave(sender: Any, **_: Any) -> None:
    _stopping.set()
    if _ticker is not None:
        _ticker.join(STOP_SECONDS)  # or it would register again what signs off here
    try:
        # The slots have ended: what one of them could not give back itself goes back now.
        return_all(worker=_name_pool(sender.hostname, os.getpid()))
        registration.leave(name=sender.hostname)
    except Error as error:
        logger.warning("the worker could not sign off: %s", error)


def _tick_on(*, name: str, slots: int) -> None:
    warn_if_lowered()
    retest_seconds = FIRST_RETEST_SECONDS
    _find_out_fitness(name=name, slots=slots)
    tested_at = time.monotonic()
    while not _stopping.is_set():
        # A storage that was away, say, may have made it fail: that passes.
        if not is_fit(fitness.read()) and time.monotonic() - tested_at > retest_seconds:
            _find_out_fitness(name=name, slots=slots)
            tested_at = time.monotonic()
            retest_seconds = min(2 * retest_seconds, MOST_RETEST_SECONDS)
        _tick(name=name, slots=slots)
        _stopping.wait(TICK_SECONDS)


def _find_out_fitness(*, name: str, slots: int) -> None:
    """Test what the worker promises, and tell the slots; it is alive meanwhile."""
    global _self_test, _beaten_at

    ticked_at = 0.0

    def should_stop() -> bool:
        nonlocal ticked_at
        if not ticked_at or time.monotonic() - ticked_at >= TICK_SECONDS:
            ticked_at = time.monotonic()
            _tick(name=name, slots=slots)
        return _is_leaving()

    should_stop()
    found = examine_worker(host=_host, should_stop=should_stop)
    if _is_leaving():
        return  # it was not finished
    if _self_test is None or found.kept != _self_test.kept:
        report_fitness(found)
    _self_test = found
    fitness.announce(found.kept)
    _beaten_at = 0.0  # the next tick says so


def _is_leaving() -> bool:
    return _stopping.is_set() or farewell.is_announced()


def _tick(*, name: str, slots: int) -> None:
    if _database.is_over_or_due():
        # The pool may fork while this thread lives; no open connection goes along.
        with holding_up_forks():
            _look_after_work(name=name, slots=slots)


def _look_after_work(*, name: str, slots: int) -> None:
    global _beaten_at
    try:
        # 0 is "never": the monotonic clock may itself be near 0.
        if not _beaten_at or time.monotonic() - _beaten_at >= settings.HEARTBEAT_SECONDS:
            registration.beat(name=name, slots=slots, self_test=_self_test)
            _beaten_at = time.monotonic()
        reap_expired()
        decay_shares()
        if is_fit(fitness.read()):
            _ring(name=name, slots=slots)
        if _database.end():
            logger.warning("the database answers again")
    except Error as error:
        seconds = _database.lengthen()
        cause = " ".join(str(error).split())
        logger.warning("the database is away, next try in %.1f s: %s", seconds, cause)
    except Exception:
        # Whatever it was: without this thread the worker would neither beat nor ring again.
        logger.exception("the main process could not look after its work")
    finally:
        connections.close_all()


def _ring(*, name: str, slots: int) -> None:
    n_busy = _count_busy(pool=_name_pool(name, os.getpid()))
    for _ in range(count_work(most=slots - n_busy)):
        dispatch.publish()


def _count_busy(*, pool: str) -> int:
    """Return how many slots of this process are at work; those of a killed one wait for a lease."""
    slots = {worker.rpartition("/")[2] for worker in list_holders(pool=pool)}
    return sum(Path("/proc", pid).exists() for pid in slots)
