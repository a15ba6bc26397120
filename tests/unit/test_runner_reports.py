"""What a child sends, read as if the participant had written every byte of it."""

from __future__ import annotations

import contextlib
import json
import re
import struct
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runapp.runner.child.failure import MAX_SENTENCE, MAX_TEXT, pack_failure
from runapp.runner.child.workflow import BadPredictions
from runapp.runner.contract import FRAME_HEADER, DataForm, FoldJob, FrameKind, Limits, Outcome
from runapp.runner.reports import (
    MAX_SMALL_FRAME,
    FrameReader,
    ReportError,
    check_predictions,
    read_failure,
)

MAX_PREDICTIONS = 1000
MAX_PART = 500
# One byte of dimensions and two of eight bytes are the header of predictions.
PREDICTIONS_HEADER = 17
SINK_KINDS = (FrameKind.X_TRAIN, FrameKind.Y_TEST)
FRAME_KINDS = [kind for kind in FrameKind if kind not in SINK_KINDS]

Frame = tuple[FrameKind, bytes]


def make_frame(kind: int, payload: bytes = b"") -> bytes:
    return FRAME_HEADER.pack(kind, len(payload)) + payload


class Reading:
    """A reader, what it told and what its sinks got."""

    def __init__(self) -> None:
        self.sunk = {kind: bytearray() for kind in SINK_KINDS}
        self.reader = FrameReader(
            max_predictions_bytes=MAX_PREDICTIONS,
            sinks={kind: sink.extend for kind, sink in self.sunk.items()},
            max_sink_bytes=MAX_PART,
        )
        self.frames: list[Frame] = []

    def feed(self, pieces: Iterable[bytes]) -> list[Frame]:
        for piece in pieces:
            self.frames += self.reader.feed(piece)
        return self.frames


def cut(stream: bytes, cuts: Iterable[int]) -> list[bytes]:
    bounds = sorted({0, len(stream), *(place % (len(stream) + 1) for place in cuts)})
    return [stream[start:end] for start, end in pairwise(bounds)]


frames = st.lists(st.tuples(st.sampled_from(list(FrameKind)), st.binary(max_size=200)), max_size=6)


@given(frames=frames, cuts=st.lists(st.integers(0, 2000), max_size=20))
def test_feed_gives_the_same_frames_however_the_stream_is_cut(
    frames: list[Frame], cuts: list[int]
) -> None:
    stream = b"".join(make_frame(kind, payload) for kind, payload in frames)
    reading = Reading()

    told = reading.feed(cut(stream, cuts))

    assert told == [(kind, b"" if kind in SINK_KINDS else payload) for kind, payload in frames]
    for kind in SINK_KINDS:
        assert reading.sunk[kind] == b"".join(part for of, part in frames if of is kind)


@given(frames=frames)
def test_feed_byte_by_byte_gives_the_same_frames(frames: list[Frame]) -> None:
    stream = b"".join(make_frame(kind, payload) for kind, payload in frames)

    told = Reading().feed(bytes([byte]) for byte in stream)

    assert [kind for kind, _ in told] == [kind for kind, _ in frames]


@given(pieces=st.lists(st.binary(max_size=80), max_size=10))
def test_feed_of_any_bytes_raises_nothing_but_report_errors(pieces: list[bytes]) -> None:
    with contextlib.suppress(ReportError):
        Reading().feed(pieces)


@given(frames=frames, junk=st.binary(max_size=40), place=st.integers(0, 2000))
def test_feed_of_a_damaged_stream_raises_nothing_but_report_errors(
    frames: list[Frame], junk: bytes, place: int
) -> None:
    stream = b"".join(make_frame(kind, payload) for kind, payload in frames)
    place %= len(stream) + 1

    with contextlib.suppress(ReportError):
        Reading().feed([stream[:place] + junk + stream[place:]])


def test_feed_tells_a_frame_no_sooner_than_its_last_byte() -> None:
    reading = Reading()
    stream = make_frame(FrameKind.FAILED, b"abc")

    assert reading.feed([stream[:-1]]) == []
    assert reading.feed([stream[-1:]]) == [(FrameKind.FAILED, b"abc")]


@pytest.mark.parametrize("number", [0, 11, 255])
def test_feed_of_an_unknown_kind_is_refused(number: int) -> None:
    with pytest.raises(ReportError, match="not one that datarun writes") as caught:
        Reading().feed([make_frame(number)])

    assert caught.value.outcome is Outcome.SUBMISSION_ERROR


@pytest.mark.parametrize("kind", [FrameKind.TRAIN_PREDICTIONS, FrameKind.TEST_PREDICTIONS])
def test_feed_of_predictions_takes_the_cap_and_no_byte_more(kind: FrameKind) -> None:
    most = MAX_PREDICTIONS + PREDICTIONS_HEADER

    assert len(Reading().feed([make_frame(kind, bytes(most))])[0][1]) == most
    with pytest.raises(ReportError, match="output limit") as caught:
        Reading().feed([FRAME_HEADER.pack(kind, most + 1)])
    assert caught.value.outcome is Outcome.OUTPUT_LIMIT


@pytest.mark.parametrize("kind", SINK_KINDS)
def test_feed_of_a_part_takes_the_cap_and_no_byte_more(kind: FrameKind) -> None:
    assert Reading().feed([make_frame(kind, bytes(MAX_PART))]) == [(kind, b"")]
    with pytest.raises(ReportError, match="too large") as caught:
        Reading().feed([FRAME_HEADER.pack(kind, MAX_PART + 1)])
    assert caught.value.outcome is Outcome.OUTPUT_LIMIT


@pytest.mark.parametrize("kind", [FrameKind.STARTED, FrameKind.FAILED, FrameKind.X_TEST])
@pytest.mark.parametrize("length", [MAX_SMALL_FRAME + 1, 2**63, 2**64 - 1])
def test_feed_of_a_huge_length_is_refused_by_its_header(kind: FrameKind, length: int) -> None:
    with pytest.raises(ReportError, match="longer than datarun writes"):
        Reading().feed([FRAME_HEADER.pack(kind, length)])


def test_feed_of_an_empty_part_is_told() -> None:
    assert Reading().feed([make_frame(FrameKind.X_TRAIN) + make_frame(FrameKind.FITTED)]) == [
        (FrameKind.X_TRAIN, b""),
        (FrameKind.FITTED, b""),
    ]


def make_job(**names: Any) -> FoldJob:
    job = FoldJob(
        files={},
        elements=("classifier",),
        kit_files={},
        kit_module=None,
        form=DataForm.FRAME,
        train_is=np.arange(4),
        labels=b"",
        n_train=4,
        n_test=2,
        test_bytes=0,
        n_classes=4,
        class_columns=(1, 3),
        limits=Limits(1, 1, 1, 1, 1, 1),
        max_predictions_bytes=MAX_PREDICTIONS,
    )
    return replace(job, **names)


CLASSES = make_job()
REGRESSION = make_job(n_classes=None, class_columns=())
OWN = make_job(n_classes=None, class_columns=(), kit_module="specific.py")


def pack(values: Any, *, shape: tuple[int, ...] | None = None, ndim: int | None = None) -> bytes:
    array = np.asarray(values, dtype="<f8")
    shape = array.shape if shape is None else shape
    ndim = len(shape) if ndim is None else ndim
    return bytes([ndim]) + struct.pack(f"<{len(shape)}q", *shape) + array.tobytes()


def check(payload: bytes, *, job: FoldJob = CLASSES, n_rows: int = 2) -> list[Any]:
    checked = check_predictions(payload, job=job, n_rows=n_rows, part="test")
    assert checked.dtype == np.float64
    return checked.tolist()


def test_check_of_one_column_per_class_takes_them_as_they_are() -> None:
    rows = [[0.1, 0.2, 0.3, 0.4], [1.0, 0.0, -5.0, 7.0]]

    assert check(pack(rows)) == rows


def test_check_of_one_column_per_class_seen_spreads_them() -> None:
    assert check(pack([[0.25, 0.75], [1.0, 0.0]])) == [[0, 0.25, 0, 0.75], [0, 1, 0, 0]]


def test_check_takes_columns_as_they_are_when_all_classes_were_seen() -> None:
    job = make_job(n_classes=2, class_columns=(0, 1))

    assert check(pack([[0.25, 0.75]]), job=job, n_rows=1) == [[0.25, 0.75]]


def test_check_of_a_regression_and_of_an_own_module() -> None:
    assert check(pack([1.5, -2.5]), job=REGRESSION) == [1.5, -2.5]
    assert check(pack([1.5, -2.5]), job=OWN) == [1.5, -2.5]
    assert check(pack([[1.5], [2.5]]), job=OWN) == [[1.5], [2.5]]
    assert check(pack(np.ones((2, 30))), job=OWN) == np.ones((2, 30)).tolist()


BAD_PREDICTIONS = {
    "nothing": (b"", CLASSES, "neither one nor two dimensions"),
    "no shape": (b"\x02", CLASSES, "neither one nor two dimensions"),
    "half a shape": (b"\x02" + bytes(15), CLASSES, "neither one nor two dimensions"),
    "no dimension": (b"\x00" + bytes(8), CLASSES, "neither one nor two dimensions"),
    "three dimensions": (pack(np.ones((2, 2, 1))), CLASSES, "neither one nor two dimensions"),
    "255 dimensions": (b"\xff" + bytes(3000), CLASSES, "neither one nor two dimensions"),
    "too few rows": (pack(np.ones((1, 4))), CLASSES, "1 predictions for the 2 rows of the test"),
    "too many rows": (pack(np.ones((3, 4))), CLASSES, "3 predictions for the 2 rows of the test"),
    "no rows": (pack(np.ones((0, 4))), CLASSES, "0 predictions for the 2 rows"),
    "no columns": (pack(np.ones((2, 0))), CLASSES, "hold no value"),
    "no columns of an own module": (pack(np.ones((2, 0))), OWN, "hold no value"),
    "a short body": (pack(np.ones((2, 4)))[:-1], CLASSES, "not as long as their shape says"),
    "a long body": (pack(np.ones((2, 4))) + b"x", CLASSES, "not as long as their shape says"),
    "a negative shape": (pack([1.0], shape=(-1, -1)), CLASSES, "not as long"),
    "one negative side": (pack([], shape=(2, -4)), CLASSES, "not as long"),
    "a shape that overflows": (pack([], shape=(2**62, 4)), CLASSES, "not as long"),
    "a shape that overflows to nothing": (pack([], shape=(2**32, 2**32)), CLASSES, "not as long"),
    "huge and empty": (pack([], shape=(2**62, 0)), CLASSES, "4611686018427387904 predictions"),
    "huge and empty otherwise": (pack([], shape=(2, 0)), REGRESSION, "hold no value"),
    "one dimension for classes": (pack([0.0, 1.0]), CLASSES, r"shape \(2,\); predict_proba"),
    "one column for classes": (pack([[0.0], [1.0]]), CLASSES, r"shape \(2, 1\); predict_proba"),
    "three columns for classes": (pack(np.ones((2, 3))), CLASSES, "each of the 4 classes"),
    "columns for values": (pack([[0.0], [1.0]]), REGRESSION, "one value a row"),
    "NaN": (pack([[0, 0, 0, np.nan], [0, 0, 0, 0]]), CLASSES, "NaN or infinity in 1 of 2"),
    "infinity": (pack([np.inf, -np.inf]), REGRESSION, "NaN or infinity in 2 of 2"),
    "NaN of an own module": (pack([np.nan, 1.0]), OWN, "NaN or infinity in 1 of 2"),
}


@pytest.mark.parametrize("name", BAD_PREDICTIONS)
def test_check_of_bad_predictions_says_what_is_wrong(name: str) -> None:
    payload, job, sentence = BAD_PREDICTIONS[name]

    with pytest.raises(ReportError, match=sentence) as caught:
        check(payload, job=job)

    assert caught.value.outcome is Outcome.BAD_PREDICTIONS
    assert caught.value.sentence.startswith("bad predictions: ")


@given(payload=st.binary(max_size=100), job=st.sampled_from([CLASSES, REGRESSION, OWN]))
def test_check_of_any_bytes_raises_nothing_but_report_errors(payload: bytes, job: FoldJob) -> None:
    with contextlib.suppress(ReportError):
        check(payload, job=job)


@given(
    shape=st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 5), min_size=1, max_size=2),
    body=st.binary(max_size=100),
)
def test_check_of_any_shape_raises_nothing_but_report_errors(shape: list[int], body: bytes) -> None:
    payload = bytes([len(shape)]) + struct.pack(f"<{len(shape)}q", *shape) + body

    with contextlib.suppress(ReportError):
        check(payload, job=OWN)


def tell(**content: Any) -> bytes:
    told = {"outcome": "submission_error", "sentence": "it broke", "traceback": "line 1"}
    return json.dumps({**told, **content}).encode()


@pytest.mark.parametrize("is_before_fit", [False, True])
def test_read_failure_gives_back_what_was_packed(is_before_fit: bool) -> None:
    packed = pack_failure(ValueError("what"), scratch="/nowhere", is_before_fit=is_before_fit)
    failure = read_failure(packed)

    assert failure.outcome is Outcome.SUBMISSION_ERROR
    assert failure.is_before_fit is is_before_fit
    assert failure.sentence == "ValueError: what"
    assert "ValueError: what" in failure.traceback


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (MemoryError(), Outcome.MEMORY_LIMIT),
        (BadPredictions("bad"), Outcome.BAD_PREDICTIONS),
        (SystemExit(3), Outcome.SUBMISSION_ERROR),
        (KeyboardInterrupt(), Outcome.SUBMISSION_ERROR),
    ],
)
def test_read_failure_knows_the_kinds_of_failure(error: BaseException, outcome: Outcome) -> None:
    assert read_failure(pack_failure(error, scratch="/nowhere")).outcome is outcome


@pytest.mark.parametrize("letter", ["a", "ä", "漢", "😀", "\x00", "\x1b", "\udc80", '"'])
def test_pack_failure_of_endless_text_stays_below_the_cap(letter: str) -> None:
    packed = pack_failure(ValueError(letter * 200_000), scratch="/nowhere")

    assert len(packed) <= MAX_SMALL_FRAME
    failure = read_failure(packed)
    assert failure.sentence.startswith("ValueError: ")
    escape = re.compile(r"\\(x00|x1b|udc80)")
    assert 0 < len(escape.sub("0", failure.traceback)) < MAX_TEXT + 100
    assert len(escape.sub("0", failure.sentence)) <= MAX_SENTENCE


def test_pack_failure_of_a_group_leaves_no_server_path() -> None:
    try:
        raise ExceptionGroup("both", [ValueError("one"), KeyError("two")])
    except ExceptionGroup as error:
        told = read_failure(pack_failure(error, scratch="/nowhere"))

    assert "one" in told.traceback
    assert "two" in told.traceback


class Nasty(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_pack_failure_of_an_exception_without_text_names_its_class() -> None:
    assert read_failure(pack_failure(Nasty(), scratch="/nowhere")).sentence == "Nasty was raised"


@pytest.mark.parametrize("outcome", [*Outcome, "nonsense", None, 3, [], {}])
def test_read_failure_lets_the_child_say_its_own_outcomes_alone(outcome: Any) -> None:
    told = read_failure(tell(outcome=outcome)).outcome

    may_say = ("submission_error", "bad_predictions", "memory_limit")
    assert told == (outcome if outcome in may_say else Outcome.SUBMISSION_ERROR)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff",
        b"null",
        b"[]",
        b"3",
        b"{}",
        b'"outcome"',
        b"NaN",
        b"[" * 100_000,
        b'{"outcome": "submission_error"}',
        json.dumps({"outcome": "submission_error", "sentence": "x"}).encode(),
        b"1" * 100_000,
    ],
)
def test_read_failure_of_nonsense_is_a_submission_error(payload: bytes) -> None:
    failure = read_failure(payload)

    assert failure.outcome is Outcome.SUBMISSION_ERROR
    assert "not one that datarun writes" in failure.sentence


@given(payload=st.binary(max_size=200))
def test_read_failure_of_any_bytes_is_a_failure(payload: bytes) -> None:
    assert read_failure(payload).outcome is Outcome.SUBMISSION_ERROR


def test_read_failure_makes_text_that_a_database_takes() -> None:
    failure = read_failure(b'{"outcome": "", "sentence": "", "traceback": ""}')
    assert failure.sentence

    failure = read_failure(tell(sentence="a\0b\udc80", traceback=["\0"]))

    assert failure.sentence == "a\\x00b\\udc80"
    assert failure.traceback == "['\\x00']"
