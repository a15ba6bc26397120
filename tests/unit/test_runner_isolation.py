"""What a fold leaves behind and what it gets to see: nothing of the worker, nothing of others."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.effort import FACTOR
from tests.unit.runner_folds import (
    LIGHT_BOOTSTRAP,
    Iris,
    is_alive,
    serving,
    wait_until,
    write_classifier,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Iris]:
    with serving(tmp_path_factory.mktemp("iris"), bootstrap=LIGHT_BOOTSTRAP % "") as iris:
        yield iris


# Each leaves processes that print their numbers; the daemon lets its parent go on at once.
DAEMON = """
def daemonise():
    ready, done = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            os.chdir("/")
            os.write(1, f"{os.getpid()}\\n".encode())
            os.write(done, b".")
            while True: signal.pause()
        os._exit(0)
    os.wait()
    os.read(ready, 1)
    print(os.getpid())
"""
ENDINGS = {
    "well": ("", "tested"),
    "an exception": ("raise ValueError", "submission_error"),
    "leaving": ("os._exit(0)", "submission_error"),
    "a crash": ("os.kill(os.getpid(), signal.SIGSEGV)", "killed"),
    "being killed": ("os.kill(os.getpid(), signal.SIGKILL)", "lost"),
    "a wall limit": ("signal.pause()", "wall_limit"),
    "bad predictions": ("self.__class__.predict_proba = lambda *_: 3", "bad_predictions"),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_every_process_is_dead_after(name: str, iris: Iris) -> None:
    ending, outcome = ENDINGS[name]

    ran = iris.run(write_classifier(top=DAEMON, fit=f"daemonise()\n{ending}"), wall_seconds=1)

    assert ran.outcome == outcome
    assert len(ran.printed) == 2
    assert not any(is_alive(int(pid)) for pid in ran.printed)
    wait_until(lambda: len(iris.keeper.children(recursive=True)) == 1, what="the spare alone")


def test_stopped_processes_are_dead_too(iris: Iris) -> None:
    freeze = """
        for _ in range(3):
            child = os.fork()
            if child == 0:
                os.kill(os.getpid(), signal.SIGSTOP)
            print(child)
        os.kill(os.getpid(), signal.SIGSTOP)
    """

    ran = iris.run(write_classifier(fit=freeze), wall_seconds=0.5)

    assert ran.outcome == "wall_limit"
    assert len(ran.printed) == 3
    assert not any(is_alive(int(pid)) for pid in ran.printed)


def test_workers_of_joblib_are_dead_after_the_fold(iris: Iris) -> None:
    code = write_classifier(
        top="import joblib",
        fit="""
            def work(number):
                return os.getpid()
            print(*joblib.Parallel(n_jobs=2)(joblib.delayed(work)(n) for n in range(4)))
        """,
    )

    ran = iris.run(code)

    assert ran.outcome == "tested", ran.result
    assert len(ran.printed) == 4
    assert not any(is_alive(int(pid)) for pid in ran.printed)


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

    assert ran.outcome == "tested", ran.result
    assert list(iris.scratch_root.iterdir()) == []


def test_removal_does_not_follow_links(iris: Iris, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir(mode=0o500)
    (tmp_path / "precious" / "file").write_text("kept")

    iris.run(
        write_classifier(
            fit=f"""
                os.mkdir("inner")
                os.symlink({str(tmp_path)!r}, "inner/link")
                os.symlink({str(tmp_path / "precious")!r}, "link")
            """
        )
    )

    assert list(iris.scratch_root.iterdir()) == []
    assert (tmp_path / "precious" / "file").read_text() == "kept"
    assert (tmp_path / "precious").stat().st_mode & 0o777 == 0o500


def test_fifty_folds_leave_no_descriptor(iris: Iris) -> None:
    codes = [
        write_classifier(),
        write_classifier(fit="raise ValueError"),
        write_classifier(fit="os._exit(0)"),
        write_classifier(predict="return None"),
        write_classifier(fit="os.closerange(3, 64)\nos._exit(0)"),
    ]
    iris.run(codes[0])
    before = {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in list_descriptors()}
    keeper_before = iris.keeper.num_fds()

    for number in range(50 * FACTOR):
        iris.run(codes[number % len(codes)])

    after = {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in list_descriptors()}
    assert after == before
    wait_until(lambda: iris.keeper.num_fds() == keeper_before, what="the keeper's descriptors")


def list_descriptors() -> list[int]:
    listed = [int(name) for name in os.listdir("/proc/self/fd")]
    # The folder's own descriptor was open while it was listed.
    return [number for number in listed if os.path.exists(f"/proc/self/fd/{number}")]


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
    scratch = [path for path in paths if path.startswith(str(iris.scratch_root))]
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
    assert sorted(links[3:]) == sorted([str(iris.folder / "X_train"), "socket"])


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


def test_scratch_root_is_made_when_it_is_missing(iris: Iris, tmp_path: Path) -> None:
    iris.supervisor._scratch_root, kept = tmp_path / "a" / "b", iris.supervisor._scratch_root

    ran = iris.run(write_classifier(fit="print(os.getcwd().replace(chr(47), chr(124)))"))

    iris.supervisor._scratch_root = kept
    assert ran.result.output.startswith(str(tmp_path / "a" / "b" / "run-").replace("/", "|"))
    assert list((tmp_path / "a" / "b").iterdir()) == []
    wait_until(lambda: len(iris.keeper.children()) == 1, what="a spare child")
