"""Whether this process lives, and whether the installation is ready for work: for load balancers.

Anybody may ask. What is answered tells what is wrong in a sentence, and neither where nor why.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta

from django.db import connections
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from health_check.base import HealthCheck, HealthCheckResult
from health_check.exceptions import ServiceUnavailable

from runapp.monitoring.health import NEEDS, Finding, Level

logger = logging.getLogger(__name__)

# The library adds a second to it, in which a check may still tell its own reason.
PATIENCE = timedelta(seconds=2)
# A check that hangs keeps its thread until the system gives up. Further ones of its kind then find
# no thread and are told to have taken too long, instead of hanging as well. Those of other kinds
# have threads of their own: a silent database is no fault of the broker.
_THREADS = {
    name: ThreadPoolExecutor(max_workers=4, thread_name_prefix=f"probe-{name}") for name in NEEDS
}
_failed: frozenset[str] = frozenset()


@dataclass
class Need(HealthCheck):  # type: ignore[misc]
    """One of the things that are needed, as django-health-check asks for it."""

    name: str
    look: Callable[[], Finding] = field(repr=False)
    timeout: timedelta = field(repr=False)

    def run(self) -> None:
        # In a thread, as it is no coroutine.
        try:
            finding = self.look()
        except Exception as error:
            logger.exception("the check of %s failed", self.name)
            raise ServiceUnavailable("It could not be checked.") from error
        finally:
            connections.close_all()
        if finding.level is Level.FAIL:
            raise ServiceUnavailable(finding.sentence)


@never_cache
@require_safe
def answer_live(request: HttpRequest) -> JsonResponse:
    """Answer that this process serves requests; nothing else is asked."""
    return JsonResponse({"status": "live"})


@never_cache
@require_safe
def answer_ready(request: HttpRequest) -> JsonResponse:
    """Answer 200 when all is there that work needs, else 503 with what is not."""
    results = asyncio.run(_ask_all())
    checks = {result.check.name: _show(result) for result in results}
    failed = {name: shown["reason"] for name, shown in checks.items() if "reason" in shown}
    _tell_changes(failed)
    status = "not ready" if failed else "ready"
    return JsonResponse({"status": status, "checks": checks}, status=503 if failed else 200)


async def _ask_all() -> list[HealthCheckResult]:
    needs = [Need(name, look, PATIENCE) for name, look in NEEDS.items()]
    return await asyncio.gather(*(need.get_result(_THREADS[need.name]) for need in needs))


def _show(result: HealthCheckResult) -> dict[str, str]:
    if result.error is None:
        return {"status": "ok"}
    return {"status": "failed", "reason": str(result.error.message)}


def _tell_changes(failed: dict[str, str]) -> None:
    """Log what has become of readiness, once: a probe comes every few seconds."""
    global _failed
    if frozenset(failed) == _failed:
        return
    _failed = frozenset(failed)
    if failed:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        logger.warning("not ready: %s", reasons)
    else:
        logger.warning("ready again")
