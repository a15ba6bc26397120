"""Datasets that bring their own module: split and trained on as locally, or refused with reason."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from test_files import local
from tests.functional.account import Account, assert_same_bits, write_submission
from tests.functional.service import Service, assert_shows_no_path

SPECIFIC = """
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd


def prepare_data(path):
    {prepare}


def get_train_data(path):
    {train}


def get_test_data(path):
    {test}


def train_submission(module_path, X, y, train_is):
    classifier = import_module(".classifier", module_path).Classifier()
    rows = [X[i] for i in train_is] if isinstance(X, list) else X.iloc[train_is]
    classifier.fit(rows, np.asarray(y)[train_is])
    return classifier


def test_submission(trained_model, X, test_is):
    rows = [X[i] for i in test_is] if isinstance(X, list) else X.iloc[test_is]
    return trained_model.predict_proba(rows)
"""

# Takes whatever X is made of.
DIGESTING = """
import zlib

import numpy as np


class Classifier:
    def fit(self, X, y):
        self.seen = sum(digest_rows(X)) + zlib.crc32(repr(y.tolist()).encode())

    def predict_proba(self, X):
        return np.array([[number, self.seen] for number in digest_rows(X)], dtype=float)


def digest_rows(X):
    rows = X if isinstance(X, list) else X.reset_index().to_numpy().tolist()
    return [zlib.crc32(repr(row).encode()) for row in rows]
"""
FRAME = 'pd.DataFrame({"a": range(9), "b": list("abcdefghi")}, index=range(3, 12))'
TEXTS = '["Stück", "x", "Stück", "yy", "x", "x", "yy", "Stück", "x"]'


@dataclass(frozen=True)
class Kit:
    """An organiser's module and what must come of it; its functions are given by their bodies."""

    name: str
    train: str = f"return {FRAME}, np.arange(9)"
    test: str = f"return {FRAME}, np.arange(9)"
    prepare: str = "pass"
    log_contains: str | None = None
    error_code: str = "split_error"

    @property
    def source(self) -> str:
        return SPECIFIC.format(prepare=self.prepare, train=self.train, test=self.test)


GOOD_KITS = [
    Kit("frame and texts", train=f"return {FRAME}, np.array({TEXTS})"),
    Kit("frame and text objects", train=f"return {FRAME}, np.array({TEXTS}, dtype=object)"),
    Kit("frame and list of texts", train=f"return {FRAME}, {TEXTS}"),
    Kit("frame and series", train=f"return {FRAME}, pd.Series({TEXTS}, index=range(9, 0, -1))"),
    Kit("list of dicts", train=f'return [{{"n": n, "t": str(n)}} for n in range(9)], {TEXTS}',
        test='return [{"n": -1, "t": "x"}], ["x"]'),
    Kit("prints", prepare='print("a word", flush=True)'),
    Kit(
        "writes into path",
        prepare='(Path(path) / "made").mkdir()\n    (Path(path) / "made" / "n").write_text("9")',
        train=f'assert (Path(path) / "made" / "n").read_text() == "9"\n    return {FRAME}, {TEXTS}',
    ),
]  # fmt: skip
BAD_KITS = [
    Kit("raises at import", prepare='pass\n\n1 / 0', log_contains="ZeroDivisionError"),
    Kit("raises in prepare", prepare='raise RuntimeError("in prepare")', log_contains="in prepare"),
    Kit("raises in train", train='raise RuntimeError("in train")', log_contains="in train"),
    Kit("raises in test", test='open("/nowhere/at/all")', log_contains="/nowhere/at/all"),
    Kit("prints and raises", prepare='print("a word")\n    1 / 0', log_contains="a word"),
    Kit("syntax error", prepare="return (", log_contains="SyntaxError"),
    Kit("returns nothing", train="pass", log_contains="TypeError"),
    Kit("three things", train="return 1, 2, 3", log_contains="ValueError"),
    Kit("fewer labels", train=f"return {FRAME}, np.arange(8)", log_contains="9 rows of X and 8"),
    Kit("no rows", train=f"return {FRAME}[:0], np.arange(0)", log_contains="empty"),
    Kit("labels in columns", train=f"return {FRAME}, np.ones((9, 2))", log_contains="1-d"),
    Kit("missing labels", train=f"return {FRAME}, [np.nan] * 9", log_contains="missing"),
    Kit("mixed labels", train=f"return {FRAME}, [1, 'a'] * 4 + [1]", log_contains="mixed types"),
    Kit("cannot be pickled", train="return [lambda: 1] * 9, np.arange(9)", log_contains="pickle"),
    Kit("leaves", prepare="import os\n    os._exit(0)", log_contains="Left without a report"),
    Kit("crashes", prepare="import os\n    os.abort()", log_contains="by the signal SIG"),
    Kit("loops", prepare="import time\n    time.sleep(1000)", log_contains="Wall limit",
        error_code="wall_limit"),
]  # fmt: skip


@pytest.fixture(scope="module")
def kits(account: Account, tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Every organiser's module, posted at once; its name to its dataset."""
    posted = {}
    for kit in sorted(GOOD_KITS + BAD_KITS, key=lambda kit: kit.name != "loops"):
        path = tmp_path_factory.mktemp("kit") / "specific.py"
        path.write_text(kit.source)
        posted[kit.name] = account.post_dataset(
            name=f"kit {kit.name}", target="y", elements="classifier", files=[path]
        )
        account.ask_for_custom_split(posted[kit.name])
    return posted


@pytest.mark.parametrize("kit", GOOD_KITS, ids=lambda kit: kit.name)
def test_own_module_splits_and_trains_as_locally(
    kit: Kit, account: Account, kits: dict[str, int], tmp_path: Path
) -> None:
    (tmp_path / "specific.py").write_text(kit.source)
    write_submission(tmp_path / "code", {"classifier": DIGESTING})
    train_is = [7, 0, 2, 5]
    account.wait_for_split(kits[kit.name])

    row = account.wait_for_fold(account.post_code(kits[kit.name], DIGESTING, train_is=train_is))

    expected = local.train_specific_locally(
        folder=tmp_path,
        files=["specific.py"],
        submission_path=tmp_path / "code",
        train_is=train_is,
    )
    assert_same_bits(row, expected)


@pytest.mark.parametrize("kit", BAD_KITS, ids=lambda kit: kit.name)
def test_own_module_that_fails_is_told_with_its_reason(
    kit: Kit, account: Account, kits: dict[str, int], embedded_service: Service
) -> None:
    row = account.wait_for_split(kits[kit.name], state="ERROR")

    assert row["error_code"] == kit.error_code
    assert kit.log_contains is not None
    assert kit.log_contains in row["log_messages"]
    assert_shows_no_path(row["log_messages"], embedded_service)


def test_traceback_of_an_own_module_names_its_line(account: Account, kits: dict[str, int]) -> None:
    row = account.wait_for_split(kits["raises in train"], state="ERROR")

    assert "specific.py, line 14: RuntimeError: in train" in row["log_messages"]
    assert "in get_train_data" in row["log_messages"]
