"""What a fold leaves behind and what it gets to see: nothing of the worker, nothing of others."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from runapp.runner.sandbox.mounts import WORK
from tests.effort import FACTOR
from tests.unit.runner_folds import (
    HOSTS,
    LIGHT_BOOTSTRAP,
    Iris,
    plain_host,
    serving,
    wait_until,
    write_classifier,
)
from tests.unit.runner_marks import Look, list_descriptors, list_groups, wait_for_none

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", params=HOSTS)
def iris(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Iris]:
    folder, host = tmp_path_factory.mktemp("iris"), HOSTS[request.param]()
    with serving(folder, bootstrap=LIGHT_BOOTSTRAP % "", host=host) as iris:
        yield iris


@pytest.fixture(scope="module")
def plain_iris(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Iris]:
    """Return one whose runs have a folder on the disk."""
    folder = tmp_path_factory.mktemp("iris")
    with serving(folder, bootstrap=LIGHT_BOOTSTRAP % "", host=plain_host()) as iris:
        yield iris


def list_scratch(iris: Iris) -> list[Path]:
    return list(iris.scratch_root.glob("*"))


# Leaves a process behind that lets its parent go on at once.
DAEMON = """
def daemonise():
    ready, done = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            os.chdir("/")
            os.write(done, b".")
            while True: signal.pause()
        os._exit(0)
    os.wait()
    os.read(ready, 1)
"""
# The first process of a namespace ignores what it sends to itself, so it crashes in earnest.
ENDINGS = {
    "well": ("pass", "tested"),
    "an exception": ("raise ValueError", "submission_error"),
    "leaving": ("os._exit(0)", "submission_error"),
    "a crash": ("ctypes.string_at(0)", "killed"),
    "a wall limit": ("signal.pause()", "wall_limit"),
    "bad predictions": ("return 3", "bad_predictions"),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_every_process_is_dead_after(name: str, iris: Iris) -> None:
    ending, outcome = ENDINGS[name]
    look = Look()
    code = write_classifier(
        top=look.naming + DAEMON, fit="daemonise()", predict=f"go_on()\n{ending}"
    )

    ran = iris.run(code, on_stage=look, wall_seconds=1)

    assert ran.outcome == outcome, ran.result
    assert len(look.pids) == 2
    wait_for_none(look.name)
    wait_until(lambda: len(iris.keeper.children(recursive=True)) == 1, what="the spare alone")


def test_every_process_is_dead_after_being_killed(iris: Iris) -> None:
    look = Look()

    def strike(report: object) -> None:
        look.pids = look.find()
        look.find_first().kill()

    code = write_classifier(top=look.naming + DAEMON, fit="daemonise()", predict="signal.pause()")
    ran = iris.run(code, on_stage=strike)

    assert ran.outcome == "lost"
    assert len(look.pids) == 2
    wait_for_none(look.name)


def test_stopped_processes_are_dead_too(iris: Iris) -> None:
    look = Look()
    freeze = """
        for _ in range(3):
            if os.fork() == 0:
                os.kill(os.getpid(), signal.SIGSTOP)
    """

    def stop_all(report: object) -> None:
        wait_until(lambda: count_stopped(look.find()) == 3, what="three stopped processes")
        look.pids = look.find()
        for pid in look.pids:
            os.kill(pid, signal.SIGSTOP)

    code = write_classifier(top=look.naming, fit=freeze, predict="signal.pause()")
    ran = iris.run(code, on_stage=stop_all, wall_seconds=0.5)

    assert ran.outcome == "wall_limit"
    assert len(look.pids) == 4
    wait_for_none(look.name)


def count_stopped(pids: list[int]) -> int:
    return [psutil.Process(pid).status() for pid in pids].count(psutil.STATUS_STOPPED)


def test_workers_of_joblib_are_dead_after_the_fold(iris: Iris) -> None:
    look = Look()
    code = write_classifier(
        top="import joblib",
        fit=f"""
            def work(number):
                exec({look.naming!r})
            joblib.Parallel(n_jobs=2)(joblib.delayed(work)(n) for n in range(4))
        """,
    )

    ran = iris.run(code, on_stage=look)

    assert ran.outcome == "tested", ran.result
    assert 1 <= len(look.pids) <= 2
    wait_for_none(look.name)
    wait_until(
        lambda: not any("loky" in name for name in os.listdir("/dev/shm")), what="semaphores"
    )


MESSES = {
    "a folder that nobody may read": """
        os.makedirs("closed/inner")
        open("closed/inner/file", "w").close()
        os.chmod("closed/inner", 0)
        os.chmod("closed", 0)
        os.chmod(".", 0)
    """,
    "folders deeper than Python recurses and paths reach": """
        for _ in range(1200):
            os.mkdir("deep-down")
            open("file", "w").close()
            os.chdir("deep-down")
    """,
    "links, pipes and odd names": r"""
        os.symlink("/", "root")
        os.symlink("submission", "inside")
        os.mkfifo("pipe")
        os.mkdir(b"not \xff utf-8\n")
        open(b"not \xff utf-8\n/\xfe", "w").close()
        os.mkdir("-rf")
        os.makedirs(".../....")
    """,
    "its own code": "import shutil; shutil.rmtree('submission')",
    "the folder itself": "import shutil; shutil.rmtree(os.getcwd())",
    "many files": """
        for number in range(3000):
            open(f"{number}", "w").close()
    """,
}


@pytest.mark.parametrize("name", MESSES)
def test_scratch_folder_is_removed_with(name: str, iris: Iris) -> None:
    ran = iris.run(write_classifier(fit=MESSES[name]))

    after = iris.run(write_classifier(fit="print(*sorted(os.listdir()))"))
    assert ran.outcome == "tested", ran.result
    assert after.printed == ["kit", "submission"]
    assert list_scratch(iris) == []


# Each makes files for as long as it lives.
WRITERS = {
    "a process": """
        if os.fork() == 0:
            os.setsid()
            n = 0
            while True:
                os.makedirs(f"folder{n % 100}/inner", exist_ok=True)
                n += 1
    """,
    "a thread": """
        import threading
        def write():
            n = 0
            while True:
                os.makedirs(f"folder{n % 100}/inner", exist_ok=True)
                n += 1
        threading.Thread(target=write, daemon=True).start()
    """,
}


@pytest.mark.parametrize("name", WRITERS)
def test_scratch_folder_is_removed_although_there_writes(name: str, plain_iris: Iris) -> None:
    for _ in range(5):
        ran = plain_iris.run(write_classifier(fit=WRITERS[name]))

        assert ran.outcome == "tested", ran.result.sentence
        assert list_scratch(plain_iris) == []


def test_removal_does_not_follow_links(plain_iris: Iris, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("kept")
    (tmp_path / "precious").chmod(0o500)

    ran = plain_iris.run(
        write_classifier(
            fit=f"""
                os.mkdir("inner")
                os.symlink({str(tmp_path)!r}, "inner/link")
                os.symlink({str(tmp_path / "precious")!r}, "link")
            """
        )
    )

    assert ran.outcome == "tested"
    assert list_scratch(plain_iris) == []
    assert (tmp_path / "precious" / "file").read_text() == "kept"
    assert (tmp_path / "precious").stat().st_mode & 0o777 == 0o500


def test_fifty_folds_leave_no_descriptor_and_no_group(iris: Iris) -> None:
    codes = [
        write_classifier(),
        write_classifier(fit="raise ValueError"),
        write_classifier(fit="os._exit(0)"),
        write_classifier(predict="return None"),
        write_classifier(fit="os.closerange(3, 64)\nos._exit(0)"),
    ]
    iris.run(codes[0])
    before, keeper_before = len(list_descriptors()), iris.keeper.num_fds()

    for number in range(50 * FACTOR):
        iris.run(codes[number % len(codes)])

    # What the keeper tells after a run is read at the next: of a child that waits, and of one
    # that is dead and whose group can go.
    assert abs(len(list_descriptors()) - before) < 20
    assert len({group.name for group in list_groups(iris.supervisor.host)}) <= 3
    wait_until(lambda: iris.keeper.num_fds() <= keeper_before, what="the keeper's descriptors")


def test_submission_of_the_last_fold_is_not_imported_again(iris: Iris) -> None:
    iris.run(write_classifier(top="print('first')"))

    assert iris.run(write_classifier(top="print('second')")).result.output == "second\n"


def test_project_cannot_be_imported(iris: Iris) -> None:
    look = """
        import importlib.util
        print(*(name for name in ("runapp", "datarun", "test_files", "tests", "manage")
                if importlib.util.find_spec(name)))
        print(*(entry.replace("/", "|") for entry in sys.path), sep="\\n")
        print(*(name for name in sys.modules if name.startswith(("runapp", "datarun", "django"))))
    """

    ran = iris.run(write_classifier(fit=look))

    lines = ran.result.output.splitlines()
    assert lines[0] == lines[-1] == ""
    paths = [line.replace("|", "/") for line in lines[1:-1]]
    assert str(ROOT) not in paths
    # At the end, so that they shadow nothing.
    scratch = [path for path in paths if path.startswith((str(iris.scratch_root), WORK))]
    assert len(scratch) == 2
    assert paths[-2:] == scratch
    assert "/" not in paths


def test_only_what_is_needed_is_open(iris: Iris) -> None:
    look = """
        for number in sorted(map(int, os.listdir("/proc/self/fd"))):
            if os.path.exists(f"/proc/self/fd/{number}"):
                print(number, os.readlink(f"/proc/self/fd/{number}").partition(":")[0])
    """

    ran = iris.run(write_classifier(fit=look))

    links = [line.split()[1] for line in ran.result.output.splitlines()]
    assert links[:3] == ["/dev/null", "pipe", "pipe"]
    # Sealed, it has no path that leads to it.
    is_sealed = iris.supervisor.host.seal.level.has_namespaces
    X_train = "/X_train" if is_sealed else str(iris.folder / "X_train")
    assert sorted(links[3:]) == [X_train, "socket"]


def test_child_is_as_a_fresh_process(iris: Iris) -> None:
    look = """
        import gc, threading
        print(gc.isenabled(), len(os.listdir("/proc/self/task")), threading.active_count())
        print(os.getsid(0) == os.getpid(), signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)
        print(signal.pthread_sigmask(signal.SIG_BLOCK, ()), sys.stdin.read() == "")
        print(sys.version_info[:2], np.geterr()["divide"])
    """

    ran = iris.run(write_classifier(fit=look))

    assert ran.result.output.splitlines() == [
        "True 1 1",
        "True True",
        "set() True",
        f"{sys.version_info[:2]} warn",
    ]


def test_scratch_root_is_made_when_it_is_missing(
    plain_iris: Iris, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "a" / "b"
    monkeypatch.setattr(plain_iris.supervisor, "_scratch_root", root)

    ran = plain_iris.run(write_classifier(fit="print(os.getcwd().replace(chr(47), chr(124)))"))

    assert ran.result.output.startswith(str(root / "run-").replace("/", "|"))
    assert list(root.iterdir()) == []
    wait_until(lambda: len(plain_iris.keeper.children()) == 1, what="a spare child")


def test_scratch_root_is_not_made_for_runs_with_a_file_system_of_their_own(iris: Iris) -> None:
    ran = iris.run(write_classifier(fit="print(os.getcwd().replace(chr(47), chr(124)))"))

    is_sealed = iris.supervisor.host.seal.level.has_namespaces
    assert (ran.printed == [WORK.replace("/", "|")]) == is_sealed
    assert iris.scratch_root.exists() != is_sealed
