"""What a self-test makes of what its probes tell, and of what they do not."""

from __future__ import annotations

import ast
import json
import multiprocessing
import signal
import socket
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from runapp.runner.contract import FoldJob, Outcome, RunResult, Usage
from runapp.runner.selftest import selftest
from runapp.runner.selftest.bait import Bait, lay_bait
from runapp.runner.selftest.promises import Promise, SelfTest, name_promises
from runapp.runner.selftest.selftest import Attempt, Report, Result, parse_reports, run_selftest
from tests.doubles import ProbedSupervisor, make_result
from tests.factories import make_self_test

DEADLINE_SECONDS = 20
PROBES = Path(selftest.__file__).with_name("probes")


def write_attempt(**changes: Any) -> str:
    line = {"promise": "files", "name": "reading", "result": "refused", "detail": "no", **changes}
    return json.dumps(line)


def test_attempts_and_ends_are_read_by_promise() -> None:
    output = "\n".join(
        [
            write_attempt(),
            write_attempt(promise="cpu", result="done"),
            write_attempt(name="writing"),
            json.dumps({"promise": "files", "n_attempts": 2}),
        ]
    )

    reports = parse_reports(output)

    refused = (Attempt("reading", Result.REFUSED, "no"), Attempt("writing", Result.REFUSED, "no"))
    assert reports[Promise.FILES] == Report(refused, 2)
    assert reports[Promise.CPU] == Report((Attempt("reading", Result.DONE, "no"),), None)
    assert reports[Promise.LABELS] == Report()
    assert [name for name in reports if reports[name].is_complete] == [Promise.FILES]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "words",
        "[1]",
        "null",
        '"files"',
        "{",
        "[" * 100_000,
        "9" * 10_000,
        write_attempt(promise="flies"),
        write_attempt(promise=["files"]),
        write_attempt(promise=None),
        write_attempt(result="kept"),
        write_attempt(result=1),
        write_attempt(name=1),
        write_attempt(detail={}),
        json.dumps({"promise": "files", "n_attempts": "2"}),
    ],
)
def test_what_is_no_line_of_a_probe_is_passed_over(line: str) -> None:
    assert parse_reports(line) == {promise: Report() for promise in Promise}


def test_all_is_kept_when_every_attempt_is_refused(tmp_path: Path) -> None:
    supervisor = ProbedSupervisor()

    found = run_selftest(supervisor=supervisor, folder=tmp_path, versions={"python": "3"})

    assert found.kept == frozenset(Promise)
    assert [finding.promise for finding in found.findings] == list(Promise)
    assert found.findings[0].mechanism == "a stand-in for walls"
    assert found.findings[1].mechanism == "none"
    assert (found.level, found.measured_by) == ("pretence", "a stand-in")
    assert (found.versions, found.reasons) == ({"python": "3"}, ("it is a test",))
    assert supervisor.roles == ["escapes", "aftermath", "child_memory", "cpu", "processes"]


@pytest.mark.parametrize("promise", Promise)
def test_one_success_of_a_probe_breaks_its_promise_alone(promise: Promise, tmp_path: Path) -> None:
    found = run_selftest(supervisor=ProbedSupervisor(broken={promise}), folder=tmp_path)

    assert found.kept == frozenset(Promise) - {promise}
    (broken,) = found.list_broken(Promise)
    assert broken.promise is promise
    assert "an attempt: a word" in broken.detail or "did not end as" in broken.detail


class Changing(ProbedSupervisor):
    """A supervisor whose runs come out as the test wants."""

    def __init__(self, change: Callable[[FoldJob, RunResult], RunResult]) -> None:
        super().__init__()
        self.change = change

    def run_fold(self, **names: Any) -> RunResult:
        return self.change(names["job"], super().run_fold(**names))


def read_bait(job: FoldJob) -> Mapping[str, Any]:
    told: Mapping[str, Any] = json.loads(job.files["bait.json"])
    return told


def change_output(replace: tuple[str, str]) -> Changing:
    def change(job: FoldJob, result: RunResult) -> RunResult:
        output = result.output.replace(*replace)
        return RunResult(result.outcome, result.sentence, "", output, Usage())

    return Changing(change)


@pytest.mark.parametrize(
    ("replace", "words"),
    [
        pytest.param(
            (
                '"network", "name": "an attempt", "result": "refused"',
                '"network", "name": "an attempt", "result": "failed"',
            ),
            "an attempt could not be tried: a word",
            id="could-not-be-made",
        ),
        pytest.param(
            ('{"promise": "network", "n_attempts": 1}', ""),
            "not all was tried: tested, the end of escapes",
            id="no-end",
        ),
        pytest.param(
            ('{"promise": "network", "n_attempts": 1}', '{"promise": "network", "n_attempts": 2}'),
            "not all was tried: tested, the end of escapes",
            id="a-line-is-lost",
        ),
    ],
)
def test_attempt_that_was_not_made_does_not_count_as_kept(
    replace: tuple[str, str], words: str, tmp_path: Path
) -> None:
    found = run_selftest(supervisor=change_output(replace), folder=tmp_path)

    assert found.kept == frozenset(Promise) - {Promise.NETWORK}
    assert found.list_broken(Promise)[0].detail == words


def test_nothing_is_kept_where_no_run_starts(tmp_path: Path) -> None:
    supervisor = Changing(lambda job, result: make_result(Outcome.NOT_STARTED, sentence="no seal"))

    found = run_selftest(supervisor=supervisor, folder=tmp_path)

    assert found.kept == frozenset()
    assert set(supervisor.roles) == {"escapes"}
    assert "no seal" in found.findings[0].detail


def test_probe_that_was_killed_from_outside_is_run_again(tmp_path: Path) -> None:
    killed = iter([Outcome.NOT_STARTED, Outcome.LOST])

    def change(job: FoldJob, result: RunResult) -> RunResult:
        outcome = next(killed, None)
        return result if outcome is None else make_result(outcome)

    supervisor = Changing(change)

    found = run_selftest(supervisor=supervisor, folder=tmp_path)

    assert found.kept == frozenset(Promise)
    assert supervisor.roles[:4] == ["escapes", "escapes", "escapes", "aftermath"]


def test_probe_that_is_always_lost_keeps_nothing(tmp_path: Path) -> None:
    supervisor = Changing(lambda job, result: make_result(Outcome.LOST, sentence="killed"))

    found = run_selftest(supervisor=supervisor, folder=tmp_path)

    assert found.kept == frozenset()


def test_nothing_is_kept_when_it_is_stopped(tmp_path: Path) -> None:
    found = run_selftest(supervisor=ProbedSupervisor(), folder=tmp_path, should_stop=lambda: True)

    assert found.kept == frozenset()


def touch_outside(act: Callable[[Mapping[str, Any]], object]) -> Changing:
    """Return a supervisor whose first run does something that its probes do not tell."""

    def change(job: FoldJob, result: RunResult) -> RunResult:
        told = read_bait(job)
        if told["role"] == "escapes":
            act(told)
        return result

    return Changing(change)


def connect(told: Mapping[str, Any]) -> None:
    _, address = told["tcp"][0]
    socket.create_connection(tuple(address)).close()


TOUCHES: dict[str, tuple[Callable[[Mapping[str, Any]], object], set[Promise]]] = {
    "a listener": (connect, {Promise.NETWORK}),
    "a canary": (
        lambda told: Path(told["canaries"][0]).write_text("sings"),
        {Promise.FILES},
    ),
    "a shared folder": (
        lambda told: Path("/tmp", told["token"]).write_text("left"),
        {Promise.FILES, Promise.NEIGHBOURS},
    ),
}


@pytest.mark.parametrize("name", TOUCHES)
def test_trace_outside_counts_whatever_the_probes_tell(name: str, tmp_path: Path) -> None:
    act, broken = TOUCHES[name]

    found = run_selftest(supervisor=touch_outside(act), folder=tmp_path)

    assert found.kept == frozenset(Promise) - broken


def test_bait_is_removed_with_what_was_left_beside_it(tmp_path: Path) -> None:
    with lay_bait(folder=tmp_path / "data", private=()) as bait:
        assert bait.folder.parent.parent == tmp_path / "data"
        left = [bait.world, Path("/tmp", bait.token)]
        left[1].write_text("left")
        for folder in (bait.folder, bait.world):
            (folder / "more").mkdir()

    assert list_files(tmp_path) == []
    assert not any(path.exists() for path in left)


def test_bait_of_a_killed_worker_is_removed_by_the_next(tmp_path: Path) -> None:
    killed = [tmp_path / ".selftest" / "run-killed", Path("/tmp", "datarun-selftest-killed")]
    for folder in killed:
        folder.mkdir(parents=True)
        (folder / "canary").write_text("")

    with (
        lay_bait(folder=tmp_path, private=()) as living,
        lay_bait(folder=tmp_path, private=()),
    ):
        assert not any(folder.exists() for folder in killed)
        assert all(canary.exists() for canary in living.canaries)


def test_bait_is_removed_while_a_fork_of_the_worker_lives(tmp_path: Path) -> None:
    with ExitStack() as stack, ThreadPoolExecutor(max_workers=1) as pool:
        bait = stack.enter_context(lay_bait(folder=tmp_path, private=()))
        slot = multiprocessing.get_context("fork").Process(target=signal.pause)
        with warnings.catch_warnings():
            # That a process with threads forks is the point: a worker's pool does.
            warnings.simplefilter("ignore", DeprecationWarning)
            slot.start()
        try:
            leaving = pool.submit(stack.pop_all().close)

            leaving.result(DEADLINE_SECONDS)
        finally:
            slot.kill()
            slot.join()

    assert not bait.folder.exists()


def list_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_probes_are_told_no_label(tmp_path: Path) -> None:
    jobs: list[FoldJob] = []
    supervisor = Changing(lambda job, result: jobs.append(job) or result)  # type: ignore[func-returns-value]

    run_selftest(supervisor=supervisor, folder=tmp_path)

    marker = bytes.fromhex(read_bait(jobs[0])["marker"])
    assert marker in jobs[0].labels
    for job in jobs:
        assert not any(marker in content for content in job.files.values())


def test_probes_speak_the_words_that_are_read() -> None:
    tree = ast.parse((PROBES / "attempts.py").read_text())
    (words,) = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple)
    ]
    (steps,) = [
        node.value
        for node in ast.parse((PROBES / "regressor.py").read_text()).body
        if isinstance(node, ast.Assign)
    ]

    assert words == tuple(Result)
    assert isinstance(steps, ast.Dict)
    assert [ast.literal_eval(key) for key in steps.keys if key] == list(selftest.Role)


def test_self_test_survives_json() -> None:
    found = make_self_test(broken={Promise.CPU})

    assert SelfTest.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_self_test_that_failed_keeps_nothing() -> None:
    found = SelfTest.fail("no room")

    assert found.kept == frozenset()
    assert [finding.detail for finding in found.findings] == ["no room"] * len(Promise)
    assert SelfTest.from_json(found.to_json()) == found


def test_promises_are_named_in_the_usual_order() -> None:
    assert name_promises({Promise.LABELS, Promise.NETWORK}) == "network, labels"


def test_marker_is_a_number_that_is_its_own(tmp_path: Path) -> None:
    baits = [Bait(folder=tmp_path, world=tmp_path, private=()) for _ in range(2)]

    assert baits[0].marker != baits[1].marker
    assert all(1 <= bait.marker < 2 for bait in baits)
