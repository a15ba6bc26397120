"""The split of a CSV: the local one exactly, or one sentence for the organiser."""

import gzip
import warnings

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal
from sklearn.model_selection import train_test_split

from runapp.runner.child.splitting import SplitError, split_csv
from runapp.runner.data.dataframes import map_frame, write_frame
from runapp.runner.data.labels import class_labels
from tests.effort import FACTOR

FOUR_ROWS = "a,target\n1,2\n3,4\n5,6\n7,8\n"


def vary_by_chunk(header, first, second):
    """Make a CSV of which read_csv, 8,192 rows of 102 columns at a time, finds two types."""
    blanks = "," * 100 + "\n"
    return header + blanks + f"{first}{blanks}" * 8192 + f"{second}{blanks}" * 50


def split(path, content, **changes):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    options = {
        "path": path,
        "target_column": "target",
        "held_out_test": 0.4,
        "random_state": 3,
        "is_classification": True,
    }
    return split_csv(**(options | changes))


def split_locally(path, *, held_out_test=0.4, random_state=3):
    """Split as a client does it at home."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pd.errors.DtypeWarning)
        frame = pd.read_csv(path)
    train, test = train_test_split(frame, test_size=held_out_test, random_state=random_state)
    return train, test


def assert_local(parts, path, **options):
    train, test = split_locally(path, **options)
    for X, y, part in ((parts.X_train, parts.y_train, train), (parts.X_test, parts.y_test, test)):
        expected = part["target"].to_numpy()
        assert_frame_equal(X, part.drop(columns="target"), check_exact=True)
        assert type(X.index) is type(part.index)
        assert X.map(type).equals(part.drop(columns="target").map(type))
        assert y.dtype == expected.dtype
        assert list(map(repr, y)) == list(map(repr, expected))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(FOUR_ROWS, id="numbers"),
        pytest.param("a,target\n1,\U0001f389\n3,é\n5,é\n", id="text target"),
        pytest.param("a,target\n1,True\n3,False\n5,True\n", id="boolean target"),
        pytest.param("a,target\n1,0.5\n3,1\n5,2\n", id="float target"),
        pytest.param("a,target\n1,7\n3,7\n5,7\n", id="constant target"),
        pytest.param("a,target\n1,a\n3,b\n5,c\n7,d\n9,e\n", id="more classes than rows"),
        pytest.param("a,target\n1,18446744073709551615\n3,1\n5,2\n", id="unsigned target"),
        pytest.param("a,b,target\n1,,1\n,x,2\n,,3\n4,y,4\n", id="missing values"),
        pytest.param("a,b,target\nx,yes,1\ny,no,2\nz,NA,3\n", id="text columns"),
        pytest.param("a,target\nTrue,1\n,2\nFalse,3\n", id="objects"),
        pytest.param("a,target\nTrue,1\n1,2\nx,3\n", id="types that become text"),
        pytest.param(vary_by_chunk("a,target", "True,1", "7,2"), id="types by chunk"),
        pytest.param("\ufefftarget,a\n1,2\n3,4\n5,6\n", id="byte order mark"),
        pytest.param('a,target\n"x\ny",1\n"p,""q""",2\nz,3\n', id="quoted newlines"),
        pytest.param("a,a,target,target\n1,2,3,4\n5,6,7,8\n9,0,1,2\n", id="repeated names"),
        pytest.param("a,target\r\n1,2\r\n3,4\r\n", id="two rows"),
        pytest.param("target\n1\n2\n3\n", id="target alone"),
        pytest.param("a,target\n1,2,3\n4,5,6\n7,8,9\n", id="index in the file"),
        pytest.param("a,target\n1,2\n\n3,4\n5\x00,6\n", id="blank line and NUL"),
    ],
)
def test_split_is_the_local_one(tmp_path, content):
    path = tmp_path / "data.csv"

    parts = split(path, content)

    assert_local(parts, path)


FIELDS = [
    "",
    "1",
    "2",
    "0.5",
    "-0.0",
    "x",
    "é",
    "True",
    "False",
    "NA",
    "a\nb",
    "99999999999999999999",
]


@settings(max_examples=50 * FACTOR, deadline=None)
@given(
    rows=st.lists(
        st.tuples(*[st.sampled_from(FIELDS)] * 2, st.integers(0, 3)), min_size=2, max_size=12
    ),
    held_out_test=st.floats(0.05, 0.45),
    random_state=st.integers(0, 2**32 - 1),
)
def test_split_and_storage_of_any_csv_are_the_local_ones(
    tmp_path_factory, rows, held_out_test, random_state
):
    path = tmp_path_factory.mktemp("split") / "data.csv"
    frame = pd.DataFrame(rows, columns=["a", "b", "target"])
    options = {"held_out_test": held_out_test, "random_state": random_state}

    parts = split(path, frame.to_csv(index=False), **options)

    assert_local(parts, path, **options)
    for X in (parts.X_train, parts.X_test):
        with (path.parent / "part").open("w+b") as file:
            write_frame(X, file)
            file.flush()
            assert_frame_equal(map_frame(file.fileno()), X, check_exact=True)


def test_split_depends_on_the_random_state(tmp_path):
    content = "a,target\n" + "".join(f"{row},{row}\n" for row in range(50))

    first, second = (split(tmp_path / "x", content, random_state=seed) for seed in (0, 1))

    assert first.y_test.tolist() != second.y_test.tolist()
    assert sorted([*first.y_train, *first.y_test]) == list(range(50))


def test_split_ignores_warnings_of_pandas(tmp_path):
    path = tmp_path / "data.csv"
    content = vary_by_chunk("a,target", "True,1", "7,2")
    path.write_text(content)
    with pytest.warns(pd.errors.DtypeWarning):
        pd.read_csv(path)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        parts = split(path, content)

    assert caught == []
    assert {*map(type, parts.X_train["a"])} == {bool, int}


def test_split_of_more_classes_than_rows_knows_the_classes_of_the_train_part(tmp_path):
    parts = split(tmp_path / "data.csv", "a,target\n1,e\n3,d\n5,c\n7,b\n9,a\n")

    assert class_labels(parts.y_train) == sorted(parts.y_train)
    assert not {*class_labels(parts.y_train)} & {*parts.y_test}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        pytest.param("", "file is empty", id="empty"),
        pytest.param("\n\n", "file is empty", id="blank"),
        pytest.param("\ufeff", "file is empty", id="byte order mark alone"),
        pytest.param("a,target\n", "number of rows is 0", id="no rows"),
        pytest.param("a,target\n1,2\n", "number of rows is 1", id="one row"),
        pytest.param(
            "a,b\n1,2\n3,4\n", "no target column 'target': its columns are 'a', 'b'", id="no target"
        ),
        pytest.param("a, target\n1,2\n3,4\n", "columns are 'a', ' target'", id="spaced target"),
        pytest.param(
            ",".join(f"c{number}" for number in range(12)) + "\n" + ",".join("1" * 12) + "\n",
            "'c9' and 2 more",
            id="many columns",
        ),
        pytest.param("x" * 999 + ",b\n1,2\n", r"'x{40}\.\.\.', 'b'", id="long name"),
        pytest.param("a,target\n1,2\n3,\n5,NA\n", "in 2 of 3 rows", id="missing targets"),
        pytest.param(
            vary_by_chunk("a,target", "1,True", "2,7"),
            "mixed types: bool, int",
            id="mixed targets",
        ),
        pytest.param("a,target\n1,inf\n3,1\n5,2\n", "infinite", id="infinite class"),
        pytest.param("a,target\n1,2\n3,4,5,6\n", "line 3", id="ragged"),
        pytest.param('a,target\n"1,2\n3,4\n', "inside string", id="open quote"),
        pytest.param("a,target\né,1\n".encode("latin-1"), "not UTF-8", id="latin-1"),
        pytest.param("a,target\n1,2\n".encode("utf-16"), "not UTF-8", id="utf-16"),
        pytest.param(gzip.compress(FOUR_ROWS.encode()), "not UTF-8", id="compressed"),
    ],
)
def test_split_refused_in_one_sentence_without_a_path(tmp_path, content, sentence):
    path = tmp_path / "data.csv"

    with pytest.raises(SplitError, match=sentence) as caught:
        split(path, content)

    assert str(tmp_path) not in str(caught.value)
    assert str(caught.value).isprintable()
    assert str(caught.value).endswith(".")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz", "zip", "tar", "zst"])
def test_split_refuses_a_file_that_is_not_what_its_name_says(tmp_path, suffix):
    with pytest.raises(SplitError, match="compressed") as caught:
        split(tmp_path / f"data.csv.{suffix}", FOUR_ROWS)

    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    # The head holds the second in which it was made: no name for a test.
    [gzip.compress(FOUR_ROWS.encode())[:-9], b"\x1f\x8b\x08" * 9],
    ids=["cut off", "heads alone"],
)
def test_split_refuses_a_damaged_gzip(tmp_path, content):
    with pytest.raises(SplitError, match="compressed"):
        split(tmp_path / "data.csv.gz", content)


def test_split_refuses_a_zip_of_nothing_without_a_path(tmp_path):
    content = b"PK\x05\x06" + bytes(18)

    with pytest.raises(SplitError, match=r"Zero files found in ZIP file data\.csv\.zip") as caught:
        split(tmp_path / "data.csv.zip", content)

    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(("held_out_test", "n_rows"), [(0.9, 4), (0.6, 2), (0.99, 50)])
def test_split_refuses_an_empty_part(tmp_path, held_out_test, n_rows):
    content = "a,target\n" + "1,2\n" * n_rows

    with pytest.raises(SplitError, match=f"{n_rows} rows cannot be split with {held_out_test}"):
        split(tmp_path / "data.csv", content, held_out_test=held_out_test)


def test_split_of_infinite_targets_is_left_to_regression(tmp_path):
    path = tmp_path / "data.csv"

    parts = split(path, "a,target\n1,inf\n3,1\n5,2\n", is_classification=False)

    assert_local(parts, path)


def test_split_of_a_file_that_is_not_there_is_not_the_organisers_fault(tmp_path):
    with pytest.raises(FileNotFoundError):
        split_csv(
            path=tmp_path / "absent.csv.gz",
            target_column="target",
            held_out_test=0.5,
            random_state=0,
            is_classification=False,
        )
