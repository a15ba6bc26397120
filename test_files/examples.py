"""The example datasets that come with datarun, for the demo, the tests and the benches."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

FOLDER = Path(__file__).resolve().parent

RANDOM_STATE = 42


class Task(StrEnum):
    """What a dataset asks for."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"


@dataclass(frozen=True)
class Example:
    """A dataset with submissions.

    Attributes
    ----------
    name : str
        Name of the dataset.
    folder : Path
        Where its files and its `submissions/` are.
    files : tuple of str
        Names of its files in the folder; the data file first.
    target : str
        Name of the column to predict.
    elements : str
        Comma-separated workflow elements.
    held_out_test : float or None
        Fraction of the rows in the test part; None where `specific.py` makes the split.
    task : Task
        Classification or regression.
    """

    name: str
    folder: Path
    files: tuple[str, ...]
    target: str
    elements: str
    held_out_test: float | None
    task: Task

    @property
    def data_file(self) -> Path:
        """The first file: the CSV of a standard dataset."""
        return self.folder / self.files[0]

    @property
    def extra_files(self) -> list[Path]:
        """The files beside the data file."""
        return [self.folder / name for name in self.files[1:]]

    @property
    def submissions(self) -> list[Path]:
        """The folders of the submissions, by name."""
        return sorted(path for path in (self.folder / "submissions").iterdir() if path.is_dir())


def list_submission_files(submission: Path) -> list[Path]:
    """List the files of a submission's folder, by name."""
    return sorted(submission.glob("*.py"))


IRIS = Example(
    name="iris",
    folder=FOLDER / "iris",
    files=("iris.csv",),
    target="species",
    elements="classifier",
    held_out_test=0.3,
    task=Task.CLASSIFICATION,
)

DIABETES = Example(
    name="diabetes",
    folder=FOLDER / "diabetes",
    files=("diabetes.csv",),
    target="progression",
    elements="regressor",
    held_out_test=0.25,
    task=Task.REGRESSION,
)

DIGITS = Example(
    name="digits",
    folder=FOLDER / "digits",
    files=("pixels.csv", "labels.csv", "held_out.csv", "specific.py"),
    target="digit",
    elements="classifier",
    held_out_test=None,
    task=Task.CLASSIFICATION,
)

PENGUINS = Example(
    name="penguins",
    folder=FOLDER / "penguins",
    files=("penguins.csv",),
    target="species",
    elements="feature_extractor,classifier,calibrator",
    held_out_test=0.25,
    task=Task.CLASSIFICATION,
)

EXAMPLES = (IRIS, DIABETES, DIGITS, PENGUINS)
