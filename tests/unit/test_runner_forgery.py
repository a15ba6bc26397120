"""Reports that a submission forges on the channel, and processes that go on after theirs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from runapp.runner import run
from runapp.runner.contract import FRAME_HEADER, FrameKind
from tests.unit.runner_folds import HOSTS, LIGHT_BOOTSTRAP, Iris, serving, write_classifier

HANG = "signal.pause()"


@pytest.fixture(scope="module", params=HOSTS)
def iris(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Iris]:
    folder, host = tmp_path_factory.mktemp("iris"), HOSTS[request.param]()
    with serving(folder, bootstrap=LIGHT_BOOTSTRAP % "", host=host) as iris:
        yield iris


def frame(kind: int, payload: bytes = b"") -> bytes:
    return FRAME_HEADER.pack(kind, len(payload)) + payload


FORGE = """
channel = next(n for n in range(3, 64) if os.path.exists(f"/proc/self/fd/{n}")
               and os.readlink(f"/proc/self/fd/{n}").startswith("socket:"))
"""
FORGED = {
    "started again": (frame(FrameKind.STARTED, bytes(16)), "out of order"),
    "predictions before the fit": (frame(FrameKind.TRAIN_PREDICTIONS, bytes(9)), "out of order"),
    "fitted twice": (frame(FrameKind.FITTED) * 2, "out of order"),
    "a frame of a split": (frame(FrameKind.X_TRAIN), "out of order"),
    "an unknown kind": (frame(77), "not one that datarun writes"),
    "a huge length": (FRAME_HEADER.pack(FrameKind.FITTED, 2**63), "longer than datarun writes"),
    "an empty failure": (frame(FrameKind.FAILED), "not one that datarun writes"),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_report_is_a_submission_error(name: str, iris: Iris) -> None:
    forged, sentence = FORGED[name]

    ran = iris.run(
        write_classifier(top=FORGE, fit=f"os.write(channel, {forged!r})\n{HANG}"), wall_seconds=20
    )

    assert ran.outcome == "submission_error"
    assert sentence in ran.result.sentence


def test_forged_frames_after_a_forbidden_one_are_not_believed(iris: Iris) -> None:
    forged = frame(77) + frame(FrameKind.FITTED)

    ran = iris.run(write_classifier(top=FORGE, fit=f"os.write(channel, {forged!r})"))

    assert ran.outcome == "submission_error"
    assert ran.reports == []


def test_forged_outcome_is_no_fault_of_ours(iris: Iris) -> None:
    told = b'{"outcome": "lost", "sentence": "it was the server", "traceback": ""}'
    forged = frame(FrameKind.FAILED, told)

    ran = iris.run(write_classifier(top=FORGE, fit=f"os.write(channel, {forged!r})\nos._exit(1)"))

    assert (ran.outcome, ran.result.sentence) == ("submission_error", "it was the server")


def test_closed_channel_ends_what_goes_on(iris: Iris, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "LEAVE_SECONDS", 0.3)

    ran = iris.run(write_classifier(top=FORGE, fit=f"os.close(channel)\n{HANG}"), wall_seconds=20)

    assert ran.outcome == "submission_error"
    assert "closed the channel" in ran.result.sentence


# The first process of a namespace ignores what it sends to itself, but not a crash.
@pytest.mark.parametrize(
    "ending", ["signal.pause()", "os.kill(os.getpid(), 9)", "ctypes.string_at(0)", "os._exit(7)"]
)
def test_complete_report_counts_however_the_process_ends(
    ending: str, iris: Iris, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "LEAVE_SECONDS", 0.3)
    late = f"""
        import ctypes
        class Stubborn:
            def flush(self):
                {ending}
        sys.stdout = Stubborn()
    """

    ran = iris.run(write_classifier(fit=late), wall_seconds=20)

    assert ran.outcome == "tested", ran.result
    assert len(ran.reports) == 3


def test_forked_process_that_comes_back_reports_nothing(iris: Iris) -> None:
    ran = iris.run(write_classifier(fit="os.fork()"))

    assert ran.outcome == "tested", ran.result


def test_forked_process_that_fails_reports_nothing(iris: Iris) -> None:
    ran = iris.run(
        write_classifier(fit="if os.fork() == 0: raise ValueError\nassert os.wait()[1] == 0")
    )

    assert ran.outcome == "tested", ran.result
