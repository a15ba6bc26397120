"""The requests that are compared: what is asked of datarun, and of the plain server beside it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from bench.memory import watch_growth
from bench.polling.changes import change_folds, renew_predictions
from bench.polling.fill import N_NEW
from bench.polling.report import OURS, PLAIN, Kind, Sample
from bench.web import PROJECT, Answer, Client, Web, serve

PAGE_ROWS = 100
N_CHANGES = 10
_LIGHT = "/runapp/submissionfold-light/"
_NEW = "/runapp/testpredictions/new/"
_NEXT = re.compile(r"<https?://[^/]+(/[^>]*)>")
_PLAIN_SETTINGS = "bench.polling.plain_settings"


@dataclass(frozen=True)
class Asked:
    """A request."""

    path: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)


class Poller:
    """Asks both servers, which share a database, for the same."""

    def __init__(
        self, environment: Mapping[str, str], webs: Mapping[str, Web], *, token: str, n_folds: int
    ) -> None:
        self._environment = environment
        self._webs = webs
        self._token = token
        self._n_folds = n_folds
        self._clients = {name: Client(web.port, token=token) for name, web in webs.items()}
        for name, path in ((OURS, f"{_LIGHT}?limit=1"), (PLAIN, "/page/?limit=1")):
            self._clients[name].ask(path)  # imports what a first request does
        self._last_page = self._walk()
        self._plain_tag = self._clients[PLAIN].ask("/conditional/").headers["ETag"]
        self._tag = ""

    def ask_long(self) -> Iterator[Sample]:
        """Ask for what takes long, datarun just before the plain server."""
        yield from self._ask_predictions()
        yield from self._compare(Kind.WHOLE, Asked(_LIGHT), Asked("/light/"))
        yield self._measure(Kind.PACKED, OURS, Asked(_LIGHT, headers={"Accept-Encoding": "gzip"}))
        headers = {"If-None-Match": self._plain_tag}
        yield self._measure(
            Kind.UNCHANGED, PLAIN, Asked("/conditional/", headers=headers), status=304
        )

    def ask_page(self) -> Iterator[Sample]:
        """Ask for what is read, nothing having changed since the whole list was."""
        headers = {"If-None-Match": self._tag}
        yield self._measure(Kind.UNCHANGED, OURS, Asked(_LIGHT, headers=headers), status=304)
        offset = self._n_folds - PAGE_ROWS
        plain = Asked(f"/page/?limit={PAGE_ROWS}&offset={offset}")
        yield from self._compare(Kind.PAGE, Asked(self._last_page), plain)

    def ask_changes(self) -> Iterator[Sample]:
        """Change some folds and ask for them."""
        yield from self._compare(Kind.CHANGES, *self._prepare_changes())

    def count_queries(self) -> dict[Kind, int]:
        """Count the queries of each request in a process of its own."""
        kinds = {
            Kind.WHOLE: Asked(_LIGHT),
            Kind.UNCHANGED: Asked(_LIGHT, headers={"If-None-Match": "*"}),
            Kind.PAGE: Asked(self._last_page),
            Kind.CHANGES: self._prepare_changes()[0],
            Kind.PREDICTIONS: Asked(_NEW, "POST"),
        }
        requests = [(one.method, one.path, dict(one.headers)) for one in kinds.values()]
        counts = _run(
            "bench.polling.queries",
            environment=self._environment,
            text=json.dumps({"token": self._token, "requests": requests}),
        )
        self._renew()
        return dict(zip(kinds, json.loads(counts), strict=True))

    def _prepare_changes(self) -> tuple[Asked, Asked]:
        cursor = self._clients[OURS].ask(f"{_LIGHT}?limit=1").headers["Datarun-Cursor"]
        before = change_folds(self._environment, count=N_CHANGES)
        return Asked(f"{_LIGHT}?updated_since={cursor}"), Asked(f"/light/?changed_after={before}")

    def _ask_predictions(self) -> Iterator[Sample]:
        for name, path in ((OURS, _NEW), (PLAIN, "/new/")):
            yield self._measure(Kind.PREDICTIONS, name, Asked(path, "POST"))
            self._renew()

    def _renew(self) -> None:
        renew_predictions(self._environment, first=self._n_folds - N_NEW)

    def _compare(self, kind: Kind, ours: Asked, plain: Asked) -> Iterator[Sample]:
        yield self._measure(kind, OURS, ours)
        yield self._measure(kind, PLAIN, plain)

    def _measure(self, kind: Kind, contender: str, asked: Asked, *, status: int = 200) -> Sample:
        answer, growth = watch_growth(
            lambda: self._ask(contender, asked), processes=self._webs[contender].processes
        )
        if answer.status != status:
            raise RuntimeError(f"{kind}, {contender}: {answer.status} instead of {status}")
        if kind is Kind.WHOLE and contender == OURS:
            self._tag = answer.headers["ETag"]
        return Sample(
            n_folds=self._n_folds,
            kind=kind,
            contender=contender,
            seconds=answer.seconds,
            growth_bytes=growth,
            content_bytes=len(answer.content),
        )

    def _ask(self, contender: str, asked: Asked) -> Answer:
        body = b"{}" if asked.method == "POST" else None
        return self._clients[contender].ask(
            asked.path, method=asked.method, body=body, headers=asked.headers
        )

    def _walk(self) -> str:
        """Return the path of the last page, found by walking over all of them."""
        path = f"{_LIGHT}?limit={PAGE_ROWS}"
        while (link := self._clients[OURS].ask(path).headers.get("Link")) is not None:
            found = _NEXT.match(link)
            assert found is not None
            path = found[1]
        return path


@contextmanager
def make_poller(environment: Mapping[str, str], *, n_folds: int) -> Iterator[Poller]:
    """Fill a database, serve it twice, and yield who asks both."""
    words = ("bench.polling.fill", "--folds", str(n_folds))
    token = _run(*words, environment=environment).strip()
    plain = {**environment, "DJANGO_SETTINGS_MODULE": _PLAIN_SETTINGS}
    with serve(environment) as ours, serve(plain) as other:
        yield Poller(environment, {OURS: ours, PLAIN: other}, token=token, n_folds=n_folds)


def _run(*words: str, environment: Mapping[str, str], text: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=PROJECT,
        env={**os.environ, **environment},
        input=text,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout
