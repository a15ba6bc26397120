"""What a sealed run may do, what is limited, and what the next one finds of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runapp.runner.sandbox.levels import Level
from tests.unit.runner_attempts import DONE, LEVELS, find_done, need_level, try_all
from tests.unit.runner_folds import LIGHT_BOOTSTRAP, Iris, serving, write_classifier
from tests.unit.runner_marks import make_name

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", params=LEVELS, ids=lambda level: level.name)
def iris(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Iris]:
    folder, host = tmp_path_factory.mktemp("iris"), need_level(request.param)
    with serving(folder, bootstrap=LIGHT_BOOTSTRAP % "", host=host) as iris:
        yield iris


@pytest.fixture(scope="module", params=[Level.ROOT, Level.USER], ids=lambda level: level.name)
def forking_iris(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Iris]:
    """Return one whose runs may start processes."""
    folder, host = tmp_path_factory.mktemp("iris"), need_level(request.param)
    with serving(folder, bootstrap=LIGHT_BOOTSTRAP % "", host=host) as iris:
        yield iris


def has_namespaces(iris: Iris) -> bool:
    return iris.supervisor.host.seal.level.has_namespaces


def test_interpreter_inside_is_the_one_outside(iris: Iris) -> None:
    ran = iris.run(write_classifier(fit="print(sys.version.encode().hex())"))

    assert bytes.fromhex(ran.result.output).decode() == sys.version


LEAVE = """
    for folder in (".", "..", "/tmp", "/var/tmp", "/dev/shm", os.environ["TMPDIR"]):
        try:
            open(f"{{folder}}/{name}", "w").close()
        except OSError:
            pass
    print(os.path.exists({name!r}))
"""
FIND = """
    folders = (".", "..", "/tmp", "/var/tmp", "/dev/shm", os.environ["TMPDIR"])
    print(*(folder for folder in folders if os.path.exists(f"{{folder}}/{name}")))
    print(*sorted(os.listdir()))
"""


def test_next_run_finds_nothing_of_the_last(iris: Iris) -> None:
    name = make_name()

    first = iris.run(write_classifier(fit=LEAVE.format(name=name)))
    second = iris.run(write_classifier(fit=FIND.format(name=name)))

    assert first.printed == ["True"]
    assert second.result.output.splitlines() == ["", "kit submission"]
    outside = (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"), iris.folder, iris.scratch_root)
    assert [folder for folder in outside if (folder / name).exists()] == []


def test_scratch_takes_no_more_than_its_limit(iris: Iris) -> None:
    write = "open('file{}', 'wb').write(bytes({}))"

    answers = try_all(
        iris,
        {
            "half of it": write.format(1, 2**20),
            "too much at once": write.format(2, 3 * 2**20),
            "too much in all": "[" + ", ".join(write.format(n, 2**20) for n in range(3, 6)) + "]",
        },
        scratch_mb=2,
    )

    assert answers["half of it"] == DONE
    assert answers["too much at once"] in {"ENOSPC", "EFBIG"}
    if has_namespaces(iris):
        assert answers["too much in all"] == "ENOSPC"


def test_scratch_is_whole_again_for_the_next_run(iris: Iris) -> None:
    fill = {"filling it": "open('file', 'wb').write(bytes(2**20))"}

    rans = [try_all(iris, fill, scratch_mb=1.5), try_all(iris, fill, scratch_mb=1.5)]

    assert rans == [{"filling it": DONE}] * 2


@pytest.mark.parametrize("folder", ["/tmp", "/dev/shm", "."])
def test_files_can_be_made_where_programs_expect_to(folder: str, forking_iris: Iris) -> None:
    ran = forking_iris.run(
        write_classifier(
            fit=f"""
                import mmap, tempfile
                with tempfile.TemporaryFile(dir={folder!r}) as file:
                    file.write(bytes(8192))
                    file.flush()
                    mmap.mmap(file.fileno(), 8192)[0] = 1
                print(os.path.expanduser("~") == os.getcwd(), len(os.listdir({folder!r})))
            """
        )
    )

    assert ran.outcome == "tested", ran.result.sentence


def test_temporary_files_can_be_made(iris: Iris) -> None:
    ran = iris.run(
        write_classifier(
            fit="""
                import tempfile
                with tempfile.NamedTemporaryFile() as file:
                    file.write(b"something")
                with tempfile.TemporaryDirectory() as folder:
                    open(folder + "/file", "w").close()
                print("made")
            """
        )
    )

    assert ran.printed == ["made"]


FORK_BOMB = """
    n_started = 0
    try:
        while n_started < 50:
            if os.fork() == 0:
                signal.pause()
            n_started += 1
    except OSError as error:
        print(type(error).__name__)
    print(n_started)
"""


def test_no_more_processes_than_allowed_can_be_started(forking_iris: Iris) -> None:
    ran = forking_iris.run(write_classifier(fit=FORK_BOMB), processes=5)

    assert ran.outcome == "tested", ran.result.sentence
    error, n_started = ran.printed
    assert error == "BlockingIOError"
    # The first process counts too, and the keeper where it is of the same user.
    assert 3 <= int(n_started) <= 5


def test_no_process_can_be_started_without_namespaces(iris: Iris) -> None:
    if has_namespaces(iris):
        pytest.skip("with namespaces processes may be started")

    answers = try_all(
        iris,
        {
            "fork": "os.fork()",
            "exec in a child": "subprocess.run(['/bin/true'])",
            "spawn": "os.posix_spawn('/bin/true', ['true'], {})",
        },
    )

    assert find_done(answers) == []


def test_threads_can_be_used(iris: Iris) -> None:
    ran = iris.run(
        write_classifier(
            top="import joblib",
            fit="""
                work = (joblib.delayed(abs)(-n) for n in range(4))
                print(*joblib.Parallel(n_jobs=2, backend="threading")(work))
            """,
        )
    )

    assert ran.outcome == "tested", ran.result.sentence
    assert ran.result.output.splitlines()[-1] == "0 1 2 3"


def test_workers_of_joblib_can_be_used(forking_iris: Iris) -> None:
    ran = forking_iris.run(
        write_classifier(
            top="import joblib",
            fit="""
                big = np.ones(200_000)  # shared between the workers by a file
                work = (joblib.delayed(np.sum)(big * n) for n in range(4))
                print(*map(int, joblib.Parallel(n_jobs=2)(work)))
            """,
        )
    )

    assert ran.outcome == "tested", ran.result.sentence
    assert ran.printed == ["0", "200000", "400000", "600000"]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_pool_of_processes_can_be_used(method: str, forking_iris: Iris) -> None:
    ran = forking_iris.run(
        write_classifier(
            top="import multiprocessing",
            fit=f"""
                with multiprocessing.get_context({method!r}).Pool(2) as pool:
                    print(*pool.map(abs, [-1, -2, -3]))
            """,
        )
    )

    assert ran.outcome == "tested", ran.result.sentence
    assert ran.printed == ["1", "2", "3"]


def test_interpreter_can_be_started_with_its_packages(forking_iris: Iris) -> None:
    ran = forking_iris.run(
        write_classifier(
            fit="""
                import subprocess
                code = "import numpy, sklearn; print('imported')"
                command = [sys.executable, "-c", code]
                print(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            """
        )
    )

    assert ran.outcome == "tested", ran.result.sentence
    assert ran.printed == ["imported"]


def test_set_user_programs_give_nothing(forking_iris: Iris) -> None:
    ran = forking_iris.run(
        write_classifier(
            fit="""
                import subprocess
                code = "print(open('/proc/self/status').read())"
                command = [sys.executable, "-c", code]
                said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                print(*(line.split()[1] for line in said.splitlines() if "CapEff" in line))
            """
        )
    )

    assert ran.outcome == "tested", ran.result.sentence
    assert [int(text, 16) for text in ran.printed] == [0]


def test_user_of_two_supervisors_differs(tmp_path: Path) -> None:
    host = need_level(Level.ROOT)
    printing = write_classifier(fit="print(os.getuid(), os.getgid(), *os.getgroups())")
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()

    with (
        serving(folders[0], bootstrap=LIGHT_BOOTSTRAP % "", host=host) as one,
        serving(folders[1], bootstrap=LIGHT_BOOTSTRAP % "", host=host) as other,
    ):
        users = [iris.run(printing).printed for iris in (one, other, one)]

    assert users[0] == users[2]
    assert users[0] != users[1]
    assert all(user == group != "0" for user, group in users)


def test_private_folders_are_no_obstacle(tmp_path: Path, iris: Iris) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    with serving(private, bootstrap=LIGHT_BOOTSTRAP % "", host=iris.supervisor.host) as other:
        for name in ("X_train", "X_test"):
            (private / name).chmod(0o600)
        other.scratch_root.mkdir(mode=0o700)

        ran = other.run(write_classifier(fit="open('file', 'w').close()"))

    assert ran.outcome == "tested", ran.result.sentence


ELSEWHERE = """
import json, sys
from pathlib import Path
from runapp.runner.keeper import handle
from runapp.runner.host import survey_host
from runapp.runner.sandbox.levels import Level
from tests.unit.runner_folds import LIGHT_BOOTSTRAP, serving, write_classifier

host = survey_host(best=Level[sys.argv[1]])
folder = Path(sys.argv[2])
with serving(folder, bootstrap=LIGHT_BOOTSTRAP % "", host=host) as iris:
    ran = iris.run(write_classifier(fit="print(os.path.exists(sys.argv[0]), os.getcwd())"))
print(json.dumps([host.seal.level.name, handle.__file__, ran.outcome, ran.result.sentence]))
"""


def test_project_below_tmp_works(iris: Iris, tmp_path: Path) -> None:
    level = iris.supervisor.host.seal.level
    project, folder = tmp_path / "project", tmp_path / "runs"
    folder.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "hostile", "functional", "integration")
    for name in ("runapp", "tests", "test_files"):
        shutil.copytree(ROOT / name, project / name, ignore=ignored)

    told = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, level.name, str(folder)],
        cwd=project,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
    )

    assert told.returncode == 0, told.stderr
    name, module, outcome, sentence = json.loads(told.stdout)
    assert (name, outcome, sentence) == (level.name, "tested", "")
    assert Path(module).is_relative_to(project)
