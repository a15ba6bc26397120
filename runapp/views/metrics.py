"""Metrics for Prometheus: of this process's requests, and of the whole installation."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from ipaddress import ip_address

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, REGISTRY, CollectorRegistry, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from runapp.common.client_address import read_address
from runapp.monitoring.metrics import (
    collect_broker,
    collect_database,
    collect_disks,
    report_silence,
)
from runapp.views.plain import answer_forbidden

# For all together: a scrape is given up after 10 s, unless told otherwise.
PATIENCE_SECONDS = 5.0
_SCHEME = "Bearer "
# What proxies add to requests that they pass on.
_PASSED_ON = ("X-Forwarded-For", "X-Real-IP", "Forwarded", "Via")
# As with probes: what hangs keeps a thread of its own kind, and no request.
_THREADS = {
    name: ThreadPoolExecutor(max_workers=4, thread_name_prefix=f"metrics-{name}")
    for name in ("database", "broker", "disks")
}


@never_cache
@require_safe
def answer_metrics(request: HttpRequest) -> HttpResponseBase:
    """Answer all metrics to whoever has the token or asks from an allowed network."""
    if not (_has_token(request) or _is_near(request)):
        return answer_forbidden(request, PermissionDenied())
    content = generate_latest(_find_registry()) + generate_latest(_make_registry(_collect()))
    return HttpResponse(content, content_type=CONTENT_TYPE_PLAIN_0_0_4)


def _has_token(request: HttpRequest) -> bool:
    given = request.headers.get("Authorization", "")
    if not settings.METRICS_TOKEN or not given.startswith(_SCHEME):
        return False
    return secrets.compare_digest(
        given.removeprefix(_SCHEME).strip().encode(), settings.METRICS_TOKEN.encode()
    )


def _is_near(request: HttpRequest) -> bool:
    # Behind a proxy that the settings do not know of, everybody comes from its address.
    if not settings.PROXIES and any(name in request.headers for name in _PASSED_ON):
        return False
    address = read_address(request)
    return bool(address) and any(
        ip_address(address) in network for network in settings.METRICS_NETWORKS
    )


def _find_registry() -> CollectorRegistry:
    """Return what is measured of requests: by all processes of this web server, if it has some."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry


class _Collected(Collector):
    """Metrics that were collected before."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _make_registry(metrics: Iterable[Metric]) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(_Collected(metrics))
    return registry


def _collect() -> list[Metric]:
    asked = {
        "database": _THREADS["database"].submit(_run, collect_database),
        "broker": _THREADS["broker"].submit(_run, collect_broker),
        "disks": _THREADS["disks"].submit(_run, collect_disks),
    }
    return list(_await_all(asked))


def _await_all(asked: dict[str, Future[list[Metric]]]) -> Iterator[Metric]:
    wait(asked.values(), timeout=PATIENCE_SECONDS)
    for name, future in asked.items():
        try:
            yield from future.result(timeout=0)
        except TimeoutError:
            future.cancel()
            yield from report_silence(name)


def _run(collect: Callable[[], list[Metric]]) -> list[Metric]:
    try:
        return collect()
    finally:
        connections.close_all()
