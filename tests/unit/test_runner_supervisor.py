"""Folds and splits through a real supervisor and a warm keeper: results and verdicts."""

from __future__ import annotations

import pickle
import re
import signal
import textwrap
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from runapp.runner.contract import FrameKind, RunResult, SplitJob
from runapp.runner.data import array_file, dataframes
from runapp.runner.stages import SplitStages
from test_files import local
from test_files.examples import IRIS, RANDOM_STATE
from tests.unit.runner_folds import (
    LIGHT_BOOTSTRAP,
    Iris,
    Ran,
    make_limits,
    plain_host,
    serving,
    split_iris,
    write_classifier,
)

FOREST = (IRIS.folder / "submissions" / "forest" / "classifier.py").read_text()


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Iris]:
    with serving(tmp_path_factory.mktemp("iris")) as iris:
        yield iris


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Iris]:
    """Serve without a PID namespace, in which a process can signal itself."""
    folder = tmp_path_factory.mktemp("plain")
    with serving(folder, bootstrap=LIGHT_BOOTSTRAP % "", host=plain_host()) as iris:
        yield iris


def assert_tested(ran: Ran) -> None:
    assert ran.outcome == "tested", ran.result


def test_fold_predicts_as_a_local_training_bit_for_bit(iris: Iris) -> None:
    train_is = np.arange(0, 100, 3)
    assert IRIS.held_out_test is not None
    expected = local.train_locally(
        csv_path=IRIS.data_file,
        target_column=IRIS.target,
        workflow_elements=IRIS.elements,
        submission_path=IRIS.folder / "submissions" / "forest",
        held_out_test=IRIS.held_out_test,
        random_state=RANDOM_STATE,
        train_is=train_is,
    )

    ran = iris.run(FOREST, train_is=train_is)

    assert_tested(ran)
    assert ran.result.sentence == ran.result.traceback == ran.result.output == ""
    predictions = [report.predictions for report in ran.reports if report.predictions is not None]
    assert [values.tobytes() for values in predictions] == [one.tobytes() for one in expected]


def test_fold_tells_its_stages_in_order_with_the_usage_so_far(iris: Iris) -> None:
    ran = iris.run(FOREST)

    assert [report.kind for report in ran.reports] == [
        FrameKind.FITTED,
        FrameKind.TRAIN_PREDICTIONS,
        FrameKind.TEST_PREDICTIONS,
    ]
    fitted, validated, tested = (report.usage for report in ran.reports)
    assert fitted.train_seconds is not None
    assert fitted.validation_seconds is fitted.test_seconds is None
    assert validated.validation_seconds is not None
    assert validated.test_seconds is validated.test_peak_bytes is None
    assert tested.test_seconds is not None
    assert tested.test_cpu_seconds is not None
    assert ran.result.usage == tested


def test_fold_on_some_of_the_classes_gets_zeros_for_the_others(iris: Iris) -> None:
    y = split_iris().y_train

    ran = iris.run(FOREST, train_is=np.flatnonzero(y != np.unique(y)[1]))

    predictions = ran.reports[-1].predictions
    assert predictions is not None
    assert predictions.shape == (45, 3)
    assert not predictions[:, 1].any()
    assert predictions.sum(axis=1) == pytest.approx(1)


def test_output_of_both_streams_is_kept_in_order(iris: Iris) -> None:
    code = write_classifier(
        top="print('loaded')",
        fit="print('fitting', file=sys.stderr); os.write(1, b'raw\\n')",
        predict="sys.stdout.write('no line end')",
    )

    ran = iris.run(code)

    assert ran.result.output == "loaded\nfitting\nraw\nno line endno line end"


def test_output_over_its_cap_is_cut_and_the_fold_goes_on(iris: Iris) -> None:
    ran = iris.run(write_classifier(fit="os.write(1, b'x' * 5_000_000)"), output_kb=4)

    assert_tested(ran)
    assert ran.result.output == (
        "x" * 2048 + f"\n... {5_000_000 - 4096} bytes left out ...\n" + "x" * 2048
    )


FAILURES = {
    "an exception": (
        write_classifier(fit="raise ValueError('no way')"),
        "classifier.py, line 8: ValueError: no way",
        'File "submission/classifier.py", line 8, in fit',
    ),
    "an exception in a chain": (
        write_classifier(fit="try:\n    1 / 0\nexcept ZeroDivisionError:\n    {}['a']"),
        "classifier.py, line 11: KeyError: 'a'",
        "During handling of the above exception",
    ),
    "an exception in a library": (
        write_classifier(predict="np.ones(3) @ np.ones(4)"),
        "classifier.py, line 11: ValueError",
        "np.ones(3) @ np.ones(4)",
    ),
    "an exception at import": (
        write_classifier(top="raise RuntimeError('at import')"),
        "classifier.py, line 4: RuntimeError: at import",
        "at import",
    ),
    "a syntax error": (
        "class Classifier:\n    def fit(self:\n",
        "classifier.py, line 2: SyntaxError",
        "def fit(self:",
    ),
    "a missing class": ("import numpy", "classifier.py has no class Classifier", ""),
    "a missing module": (
        write_classifier(top="import no_such_module"),
        "classifier.py, line 4: ModuleNotFoundError: No module named 'no_such_module'",
        "",
    ),
    "leaving by SystemExit": (write_classifier(fit="sys.exit('bye')"), "SystemExit: bye", ""),
    "an endless recursion": (
        write_classifier(top="def down(): down()", fit="down()"),
        "RecursionError",
        "",
    ),
    "an exception without text": (
        write_classifier(
            top="class Nasty(Exception):\n    def __str__(self): raise self",
            fit="raise Nasty",
        ),
        "Nasty was raised",
        "",
    ),
    "leaving with status 0": (
        write_classifier(fit="os._exit(0)"),
        "left without a report, with exit status 0",
        "",
    ),
    "leaving with status 3": (
        write_classifier(predict="os._exit(3)"),
        "left without a report, with exit status 3",
        "",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_failing_submission_is_told_its_error(name: str, iris: Iris) -> None:
    code, sentence, traceback = FAILURES[name]

    ran = iris.run(code)

    assert ran.outcome == "submission_error"
    assert sentence in ran.result.sentence
    assert traceback in ran.result.traceback
    told = ran.result.sentence + ran.result.traceback
    assert str(iris.folder) not in told
    assert "/work" not in told
    assert "runapp" not in told


@pytest.mark.parametrize(
    ("code", "is_before_fit"),
    [
        (write_classifier(top="raise RuntimeError"), True),
        ("class Classifier:\n    def fit(self:\n", True),
        ("import numpy", True),
        ("class Classifier:\n    def __init__(self):\n        raise RuntimeError", True),
        (write_classifier(fit="raise RuntimeError"), False),
        (write_classifier(predict="raise RuntimeError"), False),
        (write_classifier(predict="return None"), False),
    ],
)
def test_failure_tells_whether_fit_was_called(code: str, is_before_fit: bool, iris: Iris) -> None:
    assert iris.run(code).result.is_before_fit is is_before_fit


def test_fold_tells_its_caller_once_that_its_code_runs(iris: Iris) -> None:
    calls: list[str] = []

    iris.run(FOREST, on_start=lambda: calls.append("start"), on_stage=lambda _: calls.append("on"))

    assert calls == ["start", "on", "on", "on"]


def test_crash_is_told_by_its_signal(iris: Iris) -> None:
    ran = iris.run(write_classifier(top="import ctypes", fit="ctypes.string_at(0)"))

    assert (ran.outcome, ran.result.sentence) == ("killed", "ended by the signal SIGSEGV")


def test_submission_that_kills_itself_cannot(iris: Iris) -> None:
    ran = iris.run(write_classifier(fit="os.kill(os.getpid(), signal.SIGKILL)"))

    assert_tested(ran)


@pytest.mark.parametrize(
    ("number", "outcome", "name"),
    [
        (signal.SIGSEGV, "killed", "SIGSEGV"),
        (signal.SIGABRT, "killed", "SIGABRT"),
        (signal.SIGFPE, "killed", "SIGFPE"),
        (signal.SIGTERM, "submission_error", "SIGTERM"),
        (40, "submission_error", "40"),
    ],
)
def test_signal_that_a_submission_sends_itself_is_told(
    number: int, outcome: str, name: str, plain: Iris
) -> None:
    ran = plain.run(write_classifier(fit=f"os.kill(os.getpid(), {int(number)})"))

    assert (ran.outcome, ran.result.sentence) == (outcome, f"ended by the signal {name}")


def test_sigkill_from_nobody_known_is_lost(plain: Iris) -> None:
    ran = plain.run(write_classifier(fit="os.kill(os.getpid(), signal.SIGKILL)"))

    assert ran.outcome == "lost"
    assert ran.result.outcome.is_ours


@pytest.mark.parametrize(
    ("predict", "sentence"),
    [
        ("return None", "type object"),
        ("return np.zeros((len(X), 2))", r"predict_proba gives one column for each of the 3"),
        ("return np.zeros((len(X), 0))", "hold no value"),
        ("return np.zeros((len(X) + 1, 3))", "predictions for the 105 rows of the train part"),
        ("return np.full((len(X), 3), np.nan)", "NaN or infinity in 105 of 105"),
        ("return np.zeros((len(X), 3), dtype=complex)", "type complex128"),
    ],
)
def test_bad_predictions_are_told(predict: str, sentence: str, iris: Iris) -> None:
    ran = iris.run(write_classifier(predict=predict))

    assert ran.outcome == "bad_predictions"
    assert re.search(sentence, ran.result.sentence)


def test_test_part_is_not_there_before_the_train_part_is_predicted(iris: Iris) -> None:
    look = """
        links = [os.path.realpath(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")]
        links += open("/proc/self/maps").read().split()
        print([name for name in ("X_train", "X_test") if any(l.endswith(name) for l in links)])
    """

    ran = iris.run(write_classifier(fit=look, predict=look))

    assert ran.result.output.splitlines() == [
        "['X_train']",
        "['X_train']",
        "['X_train', 'X_test']",
    ]


def test_modules_and_patches_do_not_reach_the_next_fold(iris: Iris) -> None:
    leave = """
        import builtins, random, types, sklearn.tree
        sys.modules["left_behind"] = types.ModuleType("left_behind")
        np.mean = lambda *_: 42
        np.core_was_here = True
        builtins.left_behind = 1
        sklearn.tree.DecisionTreeClassifier.fit = None
        os.environ["LEFT"] = "1"
        sys.path.append("/left")
        np.random.seed(7); random.seed(7)
        os.umask(0)
    """
    look = """
        import builtins, random, sklearn.tree
        print("left_behind" in sys.modules, np.mean([1, 3]), hasattr(np, "core_was_here"))
        print(hasattr(builtins, "left_behind"), sklearn.tree.DecisionTreeClassifier.fit is None)
        print("LEFT" in os.environ, "/left" in sys.path, os.umask(0))
        print(np.random.random(), random.random())
    """
    clean = iris.run(write_classifier(fit=look)).result.output

    iris.run(write_classifier(fit=leave))
    after = iris.run(write_classifier(fit=look)).result.output

    assert after == clean
    assert after.startswith("False 2.0 False\nFalse False\nFalse False 63\n")


def split(
    iris: Iris, *, kit: str | None = None, table: str | None = None, **names: Any
) -> tuple[RunResult, dict[FrameKind, bytes]]:
    """Split iris, another table or by an organiser's module; return the parts as stored."""
    source = iris.folder / "source"
    source.write_text(IRIS.data_file.read_text() if table is None else table)
    files = {"data.csv": source}
    if kit is not None:
        files["specific.py"] = iris.folder / "kit"
        files["specific.py"].write_text(textwrap.dedent(kit))
    sunk = {kind: bytearray() for kind in SplitStages.order[1:-1]}
    job = {
        "files": tuple(files),
        "kit_module": None if kit is None else "specific.py",
        "target_column": IRIS.target,
        "is_classification": True,
        "held_out_test": IRIS.held_out_test,
        "random_state": RANDOM_STATE,
        "limits": make_limits(),
    }
    result = iris.supervisor.run_split(
        job=SplitJob(**job),  # type: ignore[arg-type]
        files=files,
        sinks={kind: sink.extend for kind, sink in sunk.items()},
        max_part_bytes=names.get("max_part_bytes", 2**20),
        should_stop=lambda: False,
    )
    return result, {kind: bytes(sink) for kind, sink in sunk.items()}


def test_split_stores_the_parts_of_the_table(iris: Iris) -> None:
    expected = split_iris()

    result, parts = split(iris)

    assert result.outcome == "tested", result
    (iris.folder / "part").write_bytes(parts[FrameKind.X_TEST])
    with (iris.folder / "part").open("rb") as file:
        pd.testing.assert_frame_equal(dataframes.map_frame(file.fileno()), expected.X_test)
    for kind, y in ((FrameKind.Y_TRAIN, expected.y_train), (FrameKind.Y_TEST, expected.y_test)):
        assert array_file.read_column(parts[kind]).tolist() == y.tolist()


def test_split_that_is_impossible_is_told_in_one_sentence(iris: Iris) -> None:
    result, _ = split(iris, table="a,b\n1,2\n")

    assert result.outcome == "submission_error"
    assert result.sentence.startswith("The file has no target column 'species'")
    assert result.traceback == ""


def test_split_by_an_own_module_stores_what_it_returns(iris: Iris) -> None:
    kit = """
        import os
        def prepare_data(path):
            open(os.path.join(path, "made"), "w").write("3")
        def get_train_data(path):
            n = int(open(os.path.join(path, "made")).read())
            return list(range(n)), ["a", "b", "c"]
        def get_test_data(path):
            return {"not": "an array"}, [1]
    """

    result, parts = split(iris, kit=kit)

    assert result.outcome == "tested", result
    assert pickle.loads(parts[FrameKind.X_TRAIN]) == [0, 1, 2]
    assert pickle.loads(parts[FrameKind.X_TEST]) == {"not": "an array"}
    assert array_file.read_column(parts[FrameKind.Y_TRAIN]).tolist() == ["a", "b", "c"]
    assert not (iris.folder / "made").exists()


def test_split_by_a_broken_module_names_its_line(iris: Iris) -> None:
    result, _ = split(iris, kit="def prepare_data(path):\n    path.nothing")

    assert result.outcome == "submission_error"
    assert result.sentence.startswith("specific.py, line 2: AttributeError")


def test_split_into_too_large_parts_is_an_output_limit(iris: Iris) -> None:
    result, _ = split(iris, max_part_bytes=1000)

    assert result.outcome == "output_limit"


LIBRARIES = {
    "histogram boosting": """
        from sklearn.ensemble import HistGradientBoostingClassifier
        HistGradientBoostingClassifier(max_iter=5).fit(X, y).predict_proba(X)
    """,
    "k-means": """
        from sklearn.cluster import KMeans
        KMeans(3, n_init=2, random_state=0).fit(X)
    """,
    "a forest in two processes": """
        from sklearn.ensemble import RandomForestClassifier
        RandomForestClassifier(n_estimators=4, n_jobs=2).fit(X, y).predict_proba(X)
    """,
    "a big matrix product": """
        big = np.random.default_rng(0).random((700, 700))
        assert abs(big @ np.linalg.inv(big) - np.eye(700)).max() < 1e-6
    """,
    "many threads": """
        from threadpoolctl import threadpool_limits
        from sklearn.cluster import KMeans
        from sklearn.ensemble import HistGradientBoostingClassifier
        with threadpool_limits(2):
            HistGradientBoostingClassifier(max_iter=3).fit(X, y)
            KMeans(3, n_init=1).fit(X)
            np.ones((500, 500)) @ np.ones((500, 500))
    """,
    "processes by multiprocessing": """
        import multiprocessing
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(abs, [-1, 2]) == [1, 2]
    """,
}


@pytest.mark.parametrize("name", LIBRARIES)
def test_libraries_run_in_parallel_after_the_fork(name: str, iris: Iris) -> None:
    ran = iris.run(write_classifier(fit=LIBRARIES[name]), wall_seconds=40)

    assert ran.outcome == "tested", ran.result
