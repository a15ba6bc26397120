"""What datarun costs beside its peers: the same short and long folds, two at a time.

Run from the project folder: `python -m bench.overhead`. In each round every contender trains the
same folds, one contender after the other in a turning order, each in a process of its own that
ends with its turn. All times are ratios to those of two bare processes of the same round, and all
predictions are compared with theirs. `--only` and `--skip` take the names of the table below.

Writes `overhead.md` and `overhead.png` into `bench/results`; packages that only a peer or the plot
needs (`requirements.txt` beside this file) are installed into environments of their own below
`.cache`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import TimeoutError as TurnTimeoutError
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil

from bench.machine import describe_machine
from bench.overhead.environments import FOLDER, read_requirements
from bench.overhead.output import draw_plot, print_report, write_page
from bench.overhead.peers import (
    measure_celery,
    measure_cold,
    measure_executor,
    measure_loky,
)
from bench.overhead.ramp import FOLDS_PER_COMMAND, measure_ramp
from bench.overhead.report import REFERENCE, Entry, Report, Sample
from bench.overhead.server import measure_server
from bench.overhead.slots import measure_bare, measure_runner
from bench.overhead.work import LONG_ROWS, LONG_TREES, SLOTS, Timed, Work, make_long, make_short

TURN_SECONDS = 900
KILL_SECONDS = 10
TOLD_VERSIONS = ("numpy", "scikit-learn", "joblib", "celery")
# Every numerical library reads one of these when it is loaded: a fold has one core.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
}

Measure = Callable[[Work], Timed]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Contender:
    """A way to train folds: what the table says of it, and how it is measured."""

    entry: Entry
    measure: Measure

    @property
    def name(self) -> str:
        return self.entry.name


CONTENDERS = tuple(
    Contender(Entry(name, title, isolation, remark), measure)
    for name, title, isolation, remark, measure in (
        (REFERENCE, "two bare processes", "none", "the reference", measure_bare),
        ("loky", "joblib loky, warm", "none", "processes live on from fold to fold", measure_loky),
        (
            "executor",
            "ProcessPoolExecutor, forked from a warm parent",
            "none",
            "processes live on from fold to fold",
            measure_executor,
        ),
        (
            "celery",
            "Celery, training inside the worker process",
            "none",
            "prefork, a broker of files, answers in files; from the first start to the last answer",
            measure_celery,
        ),
        ("runner", "datarun's runner alone", "not seen", "two supervisors", measure_runner),
        (
            "datarun",
            "datarun behind Celery and a database claim",
            "not seen",
            "`serve` on SQLite, over HTTP; by its own times of start and finish",
            measure_server,
        ),
        (
            "ramp",
            "ramp-test",
            "none among the folds of a submission",
            f"{read_requirements()['ramp-workflow']}; {SLOTS} commands at once on up to "
            f"{FOLDS_PER_COMMAND} folds each, with their start",
            measure_ramp,
        ),
        (
            "cold",
            "a cold Python per fold",
            "a process per fold",
            "imports and data are loaded for every fold",
            measure_cold,
        ),
    )
)
PEER_NAMES = tuple(one.name for one in CONTENDERS if one.name != REFERENCE)


def main() -> int:
    """Measure, write and print; 1 when a contender failed or predicted otherwise than bare."""
    arguments = _read_arguments()
    os.environ.update(ONE_THREAD)
    machine = describe_machine(sys.argv[1:], module="bench.overhead", packages=TOLD_VERSIONS)
    contenders = choose(CONTENDERS, only=arguments.only, skip=arguments.skip)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        works = _make_works(arguments, Path(folder))
        bench = Bench(contenders, works, machine)
        for number in range(arguments.rounds):
            bench.run_round(number)
            # An interrupted run leaves what it has.
            write_page(bench.report, arguments.output, plot="(The plot is drawn at the end.)")
    plot = draw_plot(bench.report, arguments.output)
    write_page(bench.report, arguments.output, plot=plot)
    print_report(bench.report)
    is_well = not bench.troubles and not any(one.n_different for one in bench.samples)
    return 0 if is_well else 1


def choose(
    contenders: Sequence[Contender], *, only: Sequence[str], skip: Sequence[str]
) -> tuple[Contender, ...]:
    """Return the contenders that are asked for; the reference always is."""
    wanted = set(only or PEER_NAMES) - set(skip) | {REFERENCE}
    return tuple(one for one in contenders if one.name in wanted)


def rotate(items: Sequence[Item], by: int) -> list[Item]:
    """Return the items from another one on, so that none is always measured first."""
    start = by % len(items)
    return [*items[start:], *items[:start]]


class Bench:
    """Gathers samples, round by round.

    Attributes
    ----------
    samples : list of Sample
        What was measured.
    troubles : dict of str to str
        Why a contender takes no further part, by its name.
    """

    def __init__(
        self, contenders: Sequence[Contender], works: Sequence[Work], machine: tuple[str, ...]
    ) -> None:
        self._contenders, self._works, self._machine = contenders, works, machine
        self.samples: list[Sample] = []
        self.troubles: dict[str, str] = {}

    @property
    def report(self) -> Report:
        return Report(
            machine=self._machine,
            works={work.name: describe_work(work) for work in self._works},
            entries=tuple(one.entry for one in self._contenders),
            samples=tuple(self.samples),
            troubles=self.troubles,
        )

    def run_round(self, number: int) -> None:
        """Let every contender train every work once."""
        for work in self._works:
            timed = dict(self._take_turns(number, work))
            if REFERENCE not in timed:
                raise RuntimeError(f"nothing to compare with: {self.troubles[REFERENCE]}")
            bare = timed[REFERENCE].digests
            self.samples += [
                make_sample(number, work.name, name, one, bare) for name, one in timed.items()
            ]

    def _take_turns(self, number: int, work: Work) -> Iterator[tuple[str, Timed]]:
        for contender in rotate(self._contenders, number):
            if contender.name in self.troubles:
                continue
            try:
                timed = take_turn(contender.measure, work)
            # Whatever ails a peer, the others go on and the table says so.
            except Exception as error:
                reason = " ".join(str(error).split())[:300] or type(error).__name__
                self.troubles[contender.name] = f"{work.name}, round {number + 1}: {reason}"
                _tell(number, work, contender, self.troubles[contender.name])
                continue
            _tell(number, work, contender, f"{timed.seconds_per_fold * 1000:.1f} ms a fold")
            yield contender.name, timed


def take_turn(measure: Measure, work: Work) -> Timed:
    """Measure in a new process, so that nothing of one contender is left when the next begins."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as turn:
        pid = turn.submit(os.getpid).result()
        try:
            return turn.submit(measure, work).result(TURN_SECONDS)
        except TurnTimeoutError:
            _kill_tree(psutil.Process(pid))
            raise RuntimeError(f"was not done after {TURN_SECONDS} s") from None


def _kill_tree(process: psutil.Process) -> None:
    tree = [process, *process.children(recursive=True)]
    for one in tree:
        try:
            one.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(tree, timeout=KILL_SECONDS)


def make_sample(
    number: int, work: str, contender: str, timed: Timed, bare: Sequence[str]
) -> Sample:
    """Compare predictions with the bare ones and return what the report needs."""
    pairs = zip(timed.digests, bare, strict=False)
    return Sample(
        round=number,
        work=work,
        contender=contender,
        seconds_per_fold=timed.seconds_per_fold,
        n_folds=len(timed.digests),
        n_different=sum(one != other for one, other in pairs),
        parts=timed.parts,
        isolation=timed.isolation,
    )


def describe_work(work: Work) -> str:
    """Say in words what the folds are."""
    if work.name == "short":
        return f"{len(work.folds)} folds of iris, a forest of 10 trees"
    return f"{len(work.folds)} folds of {LONG_ROWS} generated rows, a forest of {LONG_TREES} trees"


def _tell(number: int, work: Work, contender: Contender, what: str) -> None:
    print(f"round {number + 1}, {work.name}, {contender.name}: {what}", file=sys.stderr, flush=True)


def _make_works(arguments: argparse.Namespace, folder: Path) -> list[Work]:
    works = []
    if arguments.short:
        works.append(make_short(arguments.short))
    if arguments.long:
        works.append(make_long(arguments.long, folder=folder))
    return works


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    names = ", ".join(PEER_NAMES)
    choice = {"nargs": "+", "choices": PEER_NAMES, "default": [], "metavar": "NAME"}
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--short", type=int, default=100, help="short folds; 0 for none")
    parser.add_argument("--long", type=int, default=10, help="long folds; 0 for none")
    parser.add_argument("--only", **choice, help=f"contenders beside bare: {names}")  # type: ignore[arg-type]
    parser.add_argument("--skip", **choice, help="contenders to leave out")  # type: ignore[arg-type]
    parser.add_argument("--output", type=Path, default=FOLDER.parent / "results", metavar="FOLDER")
    arguments = parser.parse_args()
    if arguments.rounds < 1 or not (arguments.short or arguments.long):
        parser.error("at least one round of at least one fold is needed")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
