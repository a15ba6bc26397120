"""Datasets of every shape, posted over HTTP: split and trained on, or refused with reason."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from test_files import local
from test_files.examples import RANDOM_STATE
from tests.functional.account import Account, Row, assert_same_bits, write_submission
from tests.functional.service import Service, assert_shows_no_path

HELD_OUT = 0.3

# Sees every cell with its type, every name and every label; a bit of difference shows.
FINGERPRINT = {
    "feature_extractor": """
import zlib

import numpy as np


class FeatureExtractor:
    def fit(self, X_df, y):
        self.seen = digest(X_df, y.dtype, y.tolist())

    def transform(self, X_df):
        rows = X_df.astype(object).to_numpy().tolist()
        table = digest(X_df)
        return np.array([[digest(row), table, self.seen] for row in rows], dtype=float)


def digest(*things):
    texts = [
        [list(t.columns), list(map(str, t.dtypes)), list(t.index), t.to_csv()]
        if hasattr(t, "dtypes")
        else t
        for t in things
    ]
    return zlib.crc32(repr(texts).encode())
""",
    "classifier": """
import numpy as np


class Classifier:
    def fit(self, X, y):
        self.classes = np.unique(y)
        self.total = X.sum()

    def predict_proba(self, X):
        return np.outer(X @ [1.0, 2.0, 3.0] + self.total, np.arange(1, len(self.classes) + 1))
""",
    "regressor": """
import numpy as np


class Regressor:
    def fit(self, X, y):
        self.total = X.sum() + y.sum()

    def predict(self, X):
        return X @ [1.0, 2.0, 3.0] + self.total
""",
}

# Fits in place, as careless code does.
CARELESS = {
    "feature_extractor": """
class FeatureExtractor:
    def fit(self, X_df, y):
        X_df["more"] = 1.0
        self.mean = X_df["a"].mean()

    def transform(self, X_df):
        X_df["a"] = X_df["a"] - self.mean
        X_df.iloc[0, 0] = 7.0
        del X_df["c"]
        return X_df[["a", "b"]].to_numpy()
""",
    "classifier": """
import numpy as np


class Classifier:
    def fit(self, X, y):
        X = X.copy()
        X -= X.mean(axis=0)
        y[:] = y[::-1].copy()
        self.total = X.sum() + np.unique(y, return_inverse=True)[1] @ np.arange(len(y))

    def predict_proba(self, X):
        return np.outer(X.sum(axis=1) + self.total, [1.0, 2.0])
""",
}


@dataclass(frozen=True)
class Table:
    """A CSV and what must come of it: its split, or a sentence."""

    name: str
    content: str | bytes
    is_refused_with: str | None = None
    predictor: str = "classifier"
    target: str = "y"

    @property
    def elements(self) -> str:
        return f"feature_extractor,{self.predictor}"

    @property
    def bytes(self) -> bytes:
        return self.content if isinstance(self.content, bytes) else self.content.encode()


def rows(pattern: str, n_rows: int = 20) -> str:
    """Write n lines of a pattern in which {i} counts and {y} is one of two labels."""
    return "\n".join(pattern.format(i=i, y="ab"[i % 2]) for i in range(n_rows)) + "\n"


GOOD = [
    Table("plain", "a,b,y\n" + rows("{i},{i}.5,{y}")),
    Table("missing values", "a,b,c,y\n" + rows("{i},,{y}{i},{y}") + "NaN,1,NA,a\n,,,b\n"),
    Table("text columns", "a,b,y\n" + rows("word {i},naïve ☃ {y},{y}")),
    Table("mixed types", "a,b,y\n" + rows("{i},{i},{y}") + "word,1.5,a\nTrue,,b\n"),
    Table("byte order mark", "\ufeffa,b,y\n" + rows("{i},1,{y}")),
    Table("quoted newlines", "a,b,y\n" + rows('"one\ntwo {i}","say ""{i}""",{y}')),
    Table("duplicate names", "a,a,b,y\n" + rows("{i},{i}.5,word,{y}")),
    Table("windows line ends", ("a,b,y\n" + rows("{i},1,{y}")).replace("\n", "\r\n")),
    Table("large integers", "a,b,y\n" + rows("{i}8446744073709551616,922337203685477580{i},{y}")),
    Table("row names", "a,y\n" + rows("row {i},{i},{y}")),
    Table("blank name", ",y\n" + rows("{i},{y}")),
    Table("booleans and dates", "a,b,y\n" + rows("True,2024-01-02 03:04:05,{y}")),
    Table("constant target", "a,y\n" + rows("{i},always")),
    Table("whole-number target", "a,y\n" + rows("{i},{i}", 10) + rows("{i},{i}", 10)),
    Table("boolean target", "a,y\n1,True\n2,False\n3,True\n4,False\n5,True\n6,False\n7,True\n"),
    Table("fractional classes", "a,y\n" + rows("{i},0.{i}", 6) * 3),
    Table("more classes than rows in a part", "a,y\n" + rows("{i},class {i}")),
    Table("two rows", "a,y\n1,a\n2,b\n"),
    Table("target in the middle", "a,the target ☃,b\n" + rows("{i},{y},2"), target="the target ☃"),
    Table("regression", "a,b,y\n" + rows("{i},word,{i}.25"), predictor="regressor"),
    Table("constant regression", "a,y\n" + rows("{i},5"), predictor="regressor"),
    Table("huge regression", "a,y\n" + rows("{i},{i}e300"), predictor="regressor"),
]
BAD = [
    Table("one row", "a,y\n1,a\n", "at least 2 rows"),
    Table("no rows", "a,y\n", "at least 2 rows"),
    Table("empty file", "", "empty"),
    Table("missing target", "a,b\n" + rows("{i},{y}"), "no target column 'y'"),
    Table(
        "missing target values",
        "a,y\n" + rows("{i},{y}") + "1,\n2,\n",
        "misses its value in 2 of 22",
    ),
    Table("missing regression target", "a,y\n1,\n2,1.5\n3,1.5\n", "misses its value", "regressor"),
    Table("picture", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)) * 4, "not"),
    Table("not UTF-8", "a,y\n1,café\n2,thé\n".encode("latin-1"), "UTF-8"),
    Table("ragged lines", "a,y\n1,a\n1,2,3,4,5,6\n", "not a CSV"),
    Table("open quote", 'a,y\n"1,a\n2,b\n', "."),
]


@pytest.fixture(scope="module")
def tables(account: Account, tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Every table, posted at once; its name to its dataset."""
    posted = {}
    for table in GOOD + BAD:
        path = tmp_path_factory.mktemp("table") / "table.csv"
        path.write_bytes(table.bytes)
        posted[table.name] = account.post_dataset(
            name=table.name, target=table.target, elements=table.elements, files=[path]
        )
        account.ask_for_split(posted[table.name], held_out_test=HELD_OUT)
    return posted


@pytest.fixture(scope="module")
def fingerprints(account: Account, tables: dict[str, int]) -> dict[str, Row]:
    """A fold on every good table, finished; the table's name to the fold."""
    folds = {}
    for table in GOOD:
        n_train = account.wait_for_split(tables[table.name])["n_train"]
        sources = {element: FINGERPRINT[element] for element in table.elements.split(",")}
        folds[table.name] = account.post_code(
            tables[table.name], sources, train_is=range(n_train)[::-2]
        )
    finished = account.wait_for_folds(folds.values())
    return {name: finished[fold_id] for name, fold_id in folds.items()}


@pytest.mark.parametrize("table", GOOD, ids=lambda table: table.name)
def test_table_is_split_and_trained_on_as_locally(
    table: Table, fingerprints: dict[str, Row], tmp_path: Path
) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(table.bytes)
    sources = {element: FINGERPRINT[element] for element in table.elements.split(",")}
    write_submission(tmp_path / "code", sources)
    n_train = len(local.split_standard(path, table.target, HELD_OUT, RANDOM_STATE).y_train)

    expected = local.train_locally(
        csv_path=path,
        target_column=table.target,
        workflow_elements=table.elements,
        submission_path=tmp_path / "code",
        held_out_test=HELD_OUT,
        random_state=RANDOM_STATE,
        train_is=range(n_train)[::-2],
    )

    assert_same_bits(fingerprints[table.name], expected)


@pytest.mark.parametrize("table", BAD, ids=lambda table: table.name)
def test_table_that_cannot_be_split_is_told_in_a_sentence(
    table: Table, account: Account, tables: dict[str, int], embedded_service: Service
) -> None:
    raw_data_id = tables[table.name]

    row = account.wait_for_split(raw_data_id, state="ERROR")

    assert row["error_code"] == "split_error"
    assert table.is_refused_with is not None
    assert table.is_refused_with in row["log_messages"]
    assert_shows_no_path(row["log_messages"], embedded_service)
    assert "Traceback" not in row["log_messages"]
    assert row["n_train"] is row["classes"] is None
    fold = account.wait_for_fold(account.post_code(raw_data_id, FINGERPRINT, train_is=[0]))
    assert (fold["state"], fold["error_code"]) == ("ERROR", "split_error")


def test_code_that_changes_its_table_in_place_hurts_nobody_else(
    account: Account, tmp_path: Path
) -> None:
    path = tmp_path / "table.csv"
    path.write_text("a,b,c,y\n" + rows("{i}.5,{i},word,{y}"))
    raw_data_id = account.post_dataset(
        name="careless", target="y", elements="feature_extractor,classifier", files=[path]
    )
    account.ask_for_split(raw_data_id, held_out_test=HELD_OUT)
    account.wait_for_split(raw_data_id)
    write_submission(tmp_path / "code", CARELESS)

    folds = [account.post_code(raw_data_id, CARELESS, train_is=range(10)) for _ in range(4)]

    expected = local.train_locally(
        csv_path=path,
        target_column="y",
        workflow_elements="feature_extractor,classifier",
        submission_path=tmp_path / "code",
        held_out_test=HELD_OUT,
        random_state=RANDOM_STATE,
        train_is=range(10),
    )
    for row in account.wait_for_folds(folds).values():
        assert_same_bits(row, expected)


def test_split_can_be_reproduced_by_its_seed(account: Account, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("a,y\n" + rows("{i},{i}.5"))
    raw_data_id = account.post_dataset(name="seed", target="y", elements="regressor", files=[path])
    account.ask_for_split(raw_data_id, held_out_test=0.45, random_state=7)
    account.wait_for_split(raw_data_id)
    code = {
        "regressor": "class Regressor:\n"
        "    def fit(self, X, y):\n        pass\n\n"
        "    def predict(self, X):\n        return X[:, 0]\n"
    }

    row = account.wait_for_fold(account.post_code(raw_data_id, code, train_is=[0]))

    parts = local.split_standard(path, "y", 0.45, 7)
    expected = [np.asarray(X["a"], dtype=float) for X in (parts.X_train, parts.X_test)]
    assert_same_bits(row, (expected[0], expected[1]))
