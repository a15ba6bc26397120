"""Posts many folds at once: what is plain in one transaction, what is not one by one.

Plain is a new fold of a submission that is new or known with the same files. Such folds in a row
are written together; where that fails, because somebody else wrote the same meanwhile, and for
everything else, each is posted as if alone. So each is stored whole or refused, whatever becomes of
its neighbours, and all happen in the order in which they were sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import User
from django.db import IntegrityError, models
from django.db.models.functions import Now

from runapp.access import check_may_submit
from runapp.exceptions import Conflict, DatarunError, Forbidden, InvalidInput, StorageAway
from runapp.models import RawData, Submission, SubmissionFold
from runapp.outages import is_outage
from runapp.services.feed import note, publishing
from runapp.services.folds import TAKEN_ID, PostedFold, check_rows, pack_indices, post_fold
from runapp.services.moves import fail_waiting
from runapp.services.submissions import (
    Force,
    PostedSubmission,
    check_elements_present,
    store_code,
)
from runapp.storage import Tree, compute_tree_digest
from runapp.tracing import get_request_id

# Written together at most, so that nobody waits long for the locks.
BATCH_FOLDS = 500


@dataclass(frozen=True)
class Item:
    """One of many posted folds."""

    posted: PostedFold
    submission: PostedSubmission
    force: Force

    @property
    def fold_id(self) -> int:
        return self.posted.databoard_sf_id

    @property
    def submission_id(self) -> int:
        return self.submission.databoard_s_id


# The key of a fold's row, or why there is none.
Result = int | Exception


@dataclass(frozen=True)
class _Code:
    """What is known of a submission: its dataset and the digest of its files."""

    raw_data: RawData
    digest: str


def is_away(error: Exception) -> bool:
    """Tell whether the database or the storage is away for now."""
    return is_outage(error) or isinstance(error, StorageAway)


def post_folds(*, owner: User, items: Sequence[Item]) -> list[Result]:
    """Post folds; return for each the key of its row, or why it was refused.

    Parameters
    ----------
    owner : User
        Whose they are.
    items : sequence of Item
        At most `BATCH_FOLDS`.

    Returns
    -------
    list
        When the database or the storage goes away, its error for those that were not reached.
    """
    results: dict[int, Result] = {}
    try:
        _post_in_order(owner, items, results)
    except Exception as error:
        if not is_away(error):
            raise
        return [results.get(number, error) for number in range(len(items))]
    return [results[number] for number in range(len(items))]


def _post_in_order(owner: User, items: Sequence[Item], results: dict[int, Result]) -> None:
    books = _Books(owner, items)
    batch: dict[int, Item] = {}
    for number, item in enumerate(items):
        try:
            is_plain = books.admit(item)
        except DatarunError as error:
            results[number] = error
            continue
        if is_plain:
            batch[number] = item
            continue
        results.update(_post_batch(owner, batch, books))
        batch = {}
        results[number] = _post_alone(owner, item)
        books.look_again(item)
    results.update(_post_batch(owner, batch, books))


class _Books:
    """What is known of an account's submissions and folds, those just admitted included."""

    def __init__(self, owner: User, items: Sequence[Item]) -> None:
        self._owner = owner
        self._open: set[int] = set()
        self._codes = dict(self._find_codes({item.submission_id for item in items}))
        ids = {item.fold_id for item in items}
        rows = SubmissionFold.objects.filter(owner=owner, databoard_sf_id__in=ids)
        self._taken = set(rows.values_list("databoard_sf_id", flat=True))

    def admit(self, item: Item) -> bool:
        """Tell whether an item is plain, and count on it then.

        Raises
        ------
        DatarunError
            When it is refused.
        """
        if item.force is not Force.NOTHING:
            return False
        if item.fold_id in self._taken:
            raise InvalidInput(TAKEN_ID, field="databoard_sf_id", code="unique")
        code = self._find_code(item)
        if code is None:
            return False
        self._check_may_submit(code.raw_data)
        check_rows(item.posted, code.raw_data)
        self._codes[item.submission_id] = code
        self._taken.add(item.fold_id)
        return True

    def _check_may_submit(self, raw_data: RawData) -> None:
        if raw_data.pk not in self._open:
            check_may_submit(self._owner, raw_data)
            self._open.add(raw_data.pk)

    def get_code(self, item: Item) -> _Code:
        """Return what an admitted item's submission is made of."""
        return self._codes[item.submission_id]

    def look_again(self, item: Item) -> None:
        """Learn what became of an item that was not plain."""
        self._codes.pop(item.submission_id, None)
        self._codes.update(self._find_codes({item.submission_id}))
        rows = SubmissionFold.objects.filter(owner=self._owner, databoard_sf_id=item.fold_id)
        if rows.exists():
            self._taken.add(item.fold_id)

    def _find_code(self, item: Item) -> _Code | None:
        """Return what a plain item's submission is made of, None when it is not plain."""
        known, sent = self._codes.get(item.submission_id), item.submission
        if known is not None and sent.raw_data not in (None, known.raw_data):
            return None
        if sent.files is None:
            return known
        if known is not None:
            return known if compute_tree_digest(files=sent.files) == known.digest else None
        if sent.raw_data is None:
            return None
        check_elements_present(sent.raw_data, sent.files)
        return _Code(sent.raw_data, compute_tree_digest(files=sent.files))

    def _find_codes(self, ids: set[int]) -> Iterator[tuple[int, _Code]]:
        rows = Submission.objects.select_related("raw_data")
        for row in rows.filter(owner=self._owner, databoard_s_id__in=ids):
            assert row.databoard_s_id is not None
            yield row.databoard_s_id, _Code(row.raw_data, row.hash_files)


def _post_alone(owner: User, item: Item) -> Result:
    try:
        fold, _ = post_fold(
            owner=owner, posted=item.posted, submission=item.submission, force=item.force
        )
    except (InvalidInput, Forbidden, Conflict) as error:
        return error
    return int(fold.pk)


def _post_batch(owner: User, batch: Mapping[int, Item], books: _Books) -> dict[int, Result]:
    if not batch:
        return {}
    items = list(batch.values())
    codes = {item.submission_id: books.get_code(item) for item in items}
    try:
        keys = _write(owner, items, codes, _store_trees(items, codes))
    except (IntegrityError, Conflict, FileNotFoundError):
        # Somebody else has posted, replaced or deleted some of it meanwhile: each by itself.
        return {number: _post_alone(owner, item) for number, item in batch.items()}
    return dict(zip(batch, keys, strict=True))


def _store_trees(items: Sequence[Item], codes: Mapping[int, _Code]) -> dict[int, Tree]:
    """Write the files that were sent; no row is touched."""
    trees: dict[int, Tree] = {}
    for item in items:
        if item.submission_id not in trees:
            tree = store_code(posted=item.submission, raw_data=codes[item.submission_id].raw_data)
            if tree is not None:
                trees[item.submission_id] = tree
    return trees


def _write(
    owner: User, items: Sequence[Item], codes: Mapping[int, _Code], trees: Mapping[int, Tree]
) -> list[int]:
    with publishing():
        failed = _lock_datasets({code.raw_data.pk for code in codes.values()})
        submissions = _lock_submissions(owner, codes, trees)
        folds = [_make_fold(owner, item, submissions[item.submission_id]) for item in items]
        Submission.objects.bulk_update(submissions.values(), ["n_posted"])
        SubmissionFold.objects.bulk_create(folds)
        note(SubmissionFold)
        keys = [fold.pk for fold in folds]
        if failed:
            fail_waiting(SubmissionFold.objects.filter(pk__in=keys, raw_data__in=failed))
    return keys


def _lock_datasets(keys: set[int]) -> list[int]:
    """Lock datasets, as whoever adds folds to them; return those whose split has failed."""
    rows = RawData.objects.select_for_update(no_key=True).filter(pk__in=keys).order_by("pk")
    states = dict(rows.values_list("pk", "state"))
    if len(states) < len(keys):
        raise Conflict("A dataset has just been deleted.")
    return [pk for pk, state in states.items() if state == RawData.State.ERROR]


def _lock_submissions(
    owner: User, codes: Mapping[int, _Code], trees: Mapping[int, Tree]
) -> dict[int, Submission]:
    rows: models.QuerySet[Any] = Submission.objects.select_for_update(no_key=True)
    rows = rows.filter(owner=owner, databoard_s_id__in=codes)
    found = {row.databoard_s_id: row for row in rows.order_by("pk")}
    for row in found.values():
        code = codes[row.databoard_s_id]
        if row.raw_data_id != code.raw_data.pk or row.hash_files != code.digest:
            raise Conflict("A submission changed meanwhile.")
    made: list[Any] = [
        Submission(
            owner=owner,
            raw_data=codes[number].raw_data,
            databoard_s_id=number,
            files=dict(trees[number].files),
            hash_files=trees[number].digest,
        )
        for number in codes
        if number not in found and number in trees
    ]
    if len(found) + len(made) < len(codes):
        raise Conflict("A submission has just been deleted.")
    Submission.objects.bulk_create(made)
    return {**found, **{row.databoard_s_id: row for row in made}}


def _make_fold(owner: User, item: Item, submission: Submission) -> SubmissionFold:
    submission.n_posted += 1
    return SubmissionFold(
        owner=owner,
        submission=submission,
        raw_data_id=submission.raw_data_id,
        databoard_sf_id=item.fold_id,
        rank=submission.n_posted - 1,
        train_is=pack_indices(item.posted.train_is),
        test_is=pack_indices(item.posted.test_is),
        priority=item.posted.priority,
        queued_at=Now(),
        request_id=get_request_id(),
    )
