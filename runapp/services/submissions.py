"""A participant's code: stored whole, once, and replaced only by force."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum, auto

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from runapp.events import Action
from runapp.exceptions import Conflict, InvalidInput
from runapp.models import RawData, Submission
from runapp.services import audit
from runapp.storage import Kind, Tree, compute_tree_digest


class CodeChange(Enum):
    """What a post did to a submission's code."""

    NONE = auto()
    CREATED = auto()
    REPLACED = auto()


class Force(StrEnum):
    """What a post may replace."""

    NOTHING = ""
    FOLD = "submission_fold"
    SUBMISSION = "submission, submission_fold"


@dataclass(frozen=True)
class PostedSubmission:
    """The part of a post that concerns the submission: its id and, the first time, the rest."""

    databoard_s_id: int
    raw_data: RawData | None
    files: Mapping[str, bytes] | None

    @property
    def n_bytes(self) -> int:
        return sum(map(len, (self.files or {}).values()))


def find_submission(*, owner: User, databoard_s_id: int) -> Submission | None:
    """Return an account's submission of that id, if it has one."""
    rows = Submission.objects.select_related("raw_data")
    return rows.filter(owner=owner, databoard_s_id=databoard_s_id).first()


def check_submission(
    *, posted: PostedSubmission, known: Submission | None, force: Force
) -> RawData:
    """Check a posted submission before anything is written; return its dataset.

    Raises
    ------
    InvalidInput
        When the dataset or the files are missing, or a file that the workflow asks for.
    Conflict
        When other files are sent for a known submission without force.
    """
    raw_data = posted.raw_data or (known.raw_data if known else None)
    if raw_data is None:
        raise InvalidInput("A new submission must name its raw_data.", field="raw_data")
    if known is not None and known.raw_data_id != raw_data.pk:
        raise InvalidInput(
            f"Submission {posted.databoard_s_id} belongs to raw data {known.raw_data_id}.",
            field="raw_data",
        )
    if posted.files is None:
        if known is None:
            raise InvalidInput("A new submission must bring its files.", field="files")
        return raw_data
    check_elements_present(raw_data, posted.files)
    if known is not None:
        # Again under the row's lock, which decides (`save_submission`).
        _check_replaceable(known, compute_tree_digest(files=posted.files), force)
    return raw_data


def store_code(*, posted: PostedSubmission, raw_data: RawData) -> Tree | None:
    """Write a posted submission's files, if it brought some; no row is touched."""
    if posted.files is None:
        return None
    return raw_data.bin.write_tree(kind=Kind.CODE, files=posted.files)


def save_submission(
    *, owner: User, databoard_s_id: int, raw_data: RawData, tree: Tree | None, force: Force
) -> tuple[Submission, CodeChange]:
    """Create the submission, or compare and perhaps replace its code; in the caller's transaction.

    Returns
    -------
    Submission, CodeChange
        The row, locked, and what has become of its code.

    Raises
    ------
    Conflict
        When other files are sent for a known submission without force.
    """
    key = {"owner": owner, "databoard_s_id": databoard_s_id}
    if tree is not None and not Submission.objects.filter(**key).exists():
        created = _create(owner, databoard_s_id, raw_data, tree)
        if created is not None:
            record_submissions([created])
            return created, CodeChange.CREATED
    submission = Submission.objects.select_for_update(no_key=True).filter(**key).first()
    if submission is None or submission.raw_data_id != raw_data.pk:
        raise Conflict(f"Submission {databoard_s_id} has changed in the meantime; post it again.")
    if tree is None or tree.digest == submission.hash_files:
        return submission, CodeChange.NONE
    _check_replaceable(submission, tree.digest, force)
    facts = {"force": force, "digest": tree.digest, "was": submission.hash_files}
    audit.record(action=Action.SUBMISSION_FORCED, of=submission, facts=facts)
    submission.files, submission.hash_files = dict(tree.files), tree.digest
    submission.n_bytes = tree.n_bytes
    submission.save(update_fields=["files", "hash_files", "n_bytes"])
    return submission, CodeChange.REPLACED


def record_submissions(submissions: Iterable[Submission]) -> None:
    """Have the audit tell of new submissions, in the caller's transaction."""
    audit.record_many(
        audit.Entry(Action.SUBMISSION_POSTED, row, {"digest": row.hash_files})
        for row in submissions
    )


def _check_replaceable(submission: Submission, digest: str, force: Force) -> None:
    if digest != submission.hash_files and force is not Force.SUBMISSION:
        raise Conflict(
            f"Submission {submission.databoard_s_id} already exists with other files; "
            "to replace them, send force: 'submission, submission_fold'."
        )


def _create(owner: User, databoard_s_id: int, raw_data: RawData, tree: Tree) -> Submission | None:
    # Of two first posts at once the constraint lets one through; the other compares digests.
    try:
        with transaction.atomic():
            return Submission.objects.create(
                owner=owner,
                databoard_s_id=databoard_s_id,
                raw_data=raw_data,
                files=dict(tree.files),
                hash_files=tree.digest,
                n_bytes=tree.n_bytes,
            )
    except IntegrityError:
        return None


def check_elements_present(raw_data: RawData, files: Mapping[str, bytes]) -> None:
    """Check that a submission has a file for each element of the workflow.

    Raises
    ------
    InvalidInput
        When one is missing.
    """
    missing = [f"{name}.py" for name in raw_data.elements if f"{name}.py" not in files]
    if missing:
        raise InvalidInput(f"Missing: {', '.join(missing)}.", field="files", code="missing_file")
