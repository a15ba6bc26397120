"""All that `manage.py doctor` looks at: what work needs, and what makes it slow, unsafe or odd."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from django.conf import settings
from django.core import checks
from django.core.cache import cache
from django.db import Error, connection
from django.db.models.functions import Now
from django.utils import timezone
from redis.exceptions import RedisError

from runapp.common.exceptions import DatarunError
from runapp.execution.fitness import examine_worker, read_versions
from runapp.models import Clock, RawData
from runapp.monitoring.health import NEEDS, Finding, Level
from runapp.runner.sandbox.levels import Level as Seal
from runapp.runner.selftest.promises import SelfTest, name_promises
from runapp.scheduling.live_workers import list_live_workers
from runapp.storage import Kind

logger = logging.getLogger(__name__)

# Leases go by the database's clock alone; logs and retention by all.
MOST_APART_SECONDS = 5.0
# Checks of Django's own that are for the web server before this one.
_ELSEWHERE = {"security.W004", "security.W008", "security.W012", "security.W016"}

Look = Callable[[], Finding]


@dataclass(frozen=True)
class Entry:
    """One piece that was looked at."""

    name: str
    finding: Finding


def examine() -> Iterator[Entry]:
    """Look at everything, one after the other, and yield what was found.

    Whatever goes wrong in a look is a finding: the next one follows.
    """
    for name, look in _LOOKS.items():
        yield Entry(name, _find_out(name, look))
    yield from _examine_worker()


def _find_out(name: str, look: Look) -> Finding:
    try:
        return look()
    except Error:
        return Finding(Level.FAIL, "This cannot be checked without the database and its tables.")
    except Exception as error:
        logger.exception("the check of %s failed", name)
        return Finding(Level.FAIL, f"It could not be checked: {error}.")


def _examine_worker() -> Iterator[Entry]:
    """Test what a worker of this host would promise, where there is to be one."""
    if not settings.SLOTS:
        yield Entry("sandbox", Finding(Level.OK, "No slots are configured (DATARUN_SLOTS)."))
        return
    self_test = examine_worker()
    yield Entry("sandbox", check_sandbox(self_test))
    if self_test.was_made:
        yield Entry("metering", check_metering(self_test))


def check_settings() -> Finding:
    """Look whether the settings fit together, and are safe."""
    found = checks.run_checks(include_deployment_checks=True)
    messages = [message for message in found if message.id not in _ELSEWHERE]
    if not messages:
        return Finding(Level.OK, "The settings are consistent.")
    is_error = any(message.is_serious() for message in messages)
    return Finding(
        Level.FAIL if is_error else Level.WARN,
        " ".join(f"{message.id}: {' '.join(str(message.msg).split())}" for message in messages),
        " ".join(str(message.hint) for message in messages if message.hint),
    )


def check_database_options() -> Finding:
    """Look whether the database does as our queries want it to."""
    wanted = _WANTED[connection.vendor]
    with connection.cursor() as cursor:
        found = {}
        for name, question in wanted.items():
            cursor.execute(question[0])
            found[name] = str(cursor.fetchone()[0])
    odd = {name: value for name, value in found.items() if value not in wanted[name][1]}
    if odd:
        told = ", ".join(f"{name} is {value}" for name, value in odd.items())
        advice = "Leave these at their defaults in DATABASE_URL and on the server."
        return Finding(Level.WARN, f"The database's options: {told}.", advice)
    told = ", ".join(f"{name} {value}" for name, value in found.items())
    return Finding(Level.OK, f"The database's options: {told}.")


_WANTED: dict[str, dict[str, tuple[str, tuple[str, ...]]]] = {
    "postgresql": {
        "jit": ("SHOW jit", ("off",)),
        "time zone": ("SHOW timezone", ("UTC",)),
        "encoding": ("SHOW server_encoding", ("UTF8",)),
        "synchronous_commit": ("SHOW synchronous_commit", ("on", "remote_write", "remote_apply")),
    },
    "sqlite": {
        "journal_mode": ("PRAGMA journal_mode", ("wal",)),
        "synchronous": ("PRAGMA synchronous", ("2",)),
        "foreign_keys": ("PRAGMA foreign_keys", ("1",)),
    },
}


def check_blobs() -> Finding:
    """Look whether the storage is the one that belongs to the database."""
    newest = RawData.objects.exclude(files={}).order_by("-pk").first()
    if newest is None:
        return Finding(Level.OK, "There are no datasets yet.")
    try:
        for digest in newest.files.values():
            newest.bin.measure(kind=Kind.RAW, digest=digest)
    except DatarunError as error:
        advice = (
            "Check that DATARUN_STORAGE_URL is the storage of this database, mounted and complete."
        )
        sentence = f"Files of the newest dataset ({newest.pk}) are not found in the storage."
        return Finding(Level.FAIL, sentence, advice, str(error.__cause__ or error.message))
    return Finding(Level.OK, "The storage has the files of the newest dataset.")


def check_cache() -> Finding:
    """Look whether requests can be counted for all web processes together."""
    if not settings.CACHES["default"]["BACKEND"].endswith("RedisCache"):
        return Finding(Level.OK, "Each web process counts requests on its own.")
    try:
        cache.get("probe")
    except RedisError as error:
        sentence = "The Redis of DATARUN_CACHE_URL does not answer, so no request is counted."
        return Finding(Level.WARN, sentence, "Start it, or correct DATARUN_CACHE_URL.", str(error))
    return Finding(Level.OK, "The Redis that counts requests answers.")


def check_clock() -> Finding:
    """Look how far this host's clock is from the database's."""
    before = timezone.now()
    now = Clock.objects.annotate(now=Now()).values_list("now", flat=True)[0]
    middle = before + (timezone.now() - before) / 2
    seconds = (now - middle).total_seconds()
    if abs(seconds) > MOST_APART_SECONDS:
        sentence = f"The database's clock differs from this host's by {seconds:+.1f} s."
        return Finding(Level.WARN, sentence, "Synchronise the clocks of all machines with NTP.")
    return Finding(Level.OK, f"The database's clock is within {abs(seconds):.1f} s of this host's.")


def check_sandbox(self_test: SelfTest) -> Finding:
    """Look whether a worker of this host would keep what is required of it."""
    broken = self_test.list_broken(settings.REQUIRED_PROMISES)
    if not self_test.was_made:
        advice = "Fix the storage and the home, to which it writes; then run manage.py selftest."
        sentence = f"Unknown: {self_test.findings[0].detail}."
        return Finding(Level.FAIL if broken else Level.WARN, sentence, advice)
    if broken:
        reasons = "; ".join(f"{finding.promise}: {finding.detail}" for finding in broken)
        sentence = f"A worker takes no work here, because it does not keep: {reasons}."
        advice = "Change the host (docs/deployment.md), or what DATARUN_REQUIRED_PROMISES requires."
        return Finding(Level.FAIL, sentence, advice)
    missing = [finding.promise for finding in self_test.findings if not finding.is_kept]
    kept = f"Sandbox: {self_test.level}; kept: {name_promises(self_test.kept) or 'nothing'}"
    if missing or self_test.level not in (Seal.ROOT, Seal.USER):
        lacking = f"; not kept: {name_promises(missing)}" if missing else ""
        return Finding(Level.WARN, f"{kept}{lacking}.", " ".join(self_test.reasons) or "")
    return Finding(Level.OK, f"{kept}.")


def check_metering(self_test: SelfTest) -> Finding:
    """Look whether control groups measure and limit runs."""
    sentence = f"Runs are measured by {self_test.measured_by}."
    if "cgroup" in self_test.measured_by:
        return Finding(Level.OK, sentence)
    advice = "Give the worker control groups: limits are then exact instead of sampled."
    return Finding(Level.WARN, sentence, advice)


def check_versions() -> Finding:
    """Look whether all live workers run the same code and libraries, and those of this host."""
    versions = [_drop_kernel(worker.versions) for worker in list_live_workers()]
    kinds = {tuple(sorted(each.items())) for each in [*versions, _drop_kernel(read_versions())]}
    if len(kinds) == 1:
        return Finding(Level.OK, "All live workers have the versions of this host.")
    differing = sorted({name for kind in kinds for name, _ in set(kind) ^ set(min(kinds))})
    sentence = f"Versions differ between live workers and this host: {', '.join(differing)}."
    return Finding(
        Level.WARN, sentence, "Run manage.py workers, and upgrade all of them to the same versions."
    )


def _drop_kernel(versions: dict[str, str]) -> dict[str, str]:
    # It decides on promises, which each worker tests, and not on predictions.
    return {name: version for name, version in versions.items() if name != "kernel"}


_LOOKS: dict[str, Look] = {
    "settings": check_settings,
    "database": NEEDS["database"],
    "database options": check_database_options,
    "migrations": NEEDS["migrations"],
    "clock": check_clock,
    "broker": NEEDS["broker"],
    "cache": check_cache,
    "storage": NEEDS["storage"],
    "blobs": check_blobs,
    "disk": NEEDS["disk"],
    "workers": NEEDS["workers"],
    "versions": check_versions,
}
