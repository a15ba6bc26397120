"""Posts many folds at once: what is plain in one transaction, what is not one by one.

Plain is a new fold of a submission that is new or known with the same files. Such folds in a row
are written together; where that fails, because somebody else wrote the same meanwhile, and for
everything else, each is posted as if alone. So each is stored whole or refused, whatever becomes of
its neighbours, and all happen in the order in which they were sent.

Of folds that go over a quota as many are taken as fit; the others are refused by what was read once
before, without a look at the database for each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from django.contrib.auth.models import User
from django.db import IntegrityError
from django.db.models.functions import Now

from runapp.accounts.access import check_may_submit
from runapp.accounts.quota_use import Allowance, Ask, read_allowance, read_standing
from runapp.accounts.quotas import count_use
from runapp.changes.feed import note, publishing
from runapp.common.exceptions import (
    Conflict,
    DatarunError,
    Forbidden,
    InvalidInput,
    QuotaExceeded,
    StorageAway,
)
from runapp.common.log_context import get_request_id
from runapp.common.outages import is_outage
from runapp.common.transitions import Phase
from runapp.common.wire import pack_indices
from runapp.datasets.sharing import open_to_owners
from runapp.models import RawData, Submission, SubmissionFold
from runapp.scheduling.state_changes import fail_waiting
from runapp.storage import Tree, compute_tree_digest
from runapp.submissions.code import (
    Force,
    PostedSubmission,
    check_elements_present,
    record_submissions,
    store_code,
)
from runapp.submissions.folds import TAKEN_ID, PostedFold, check_rows, post_fold

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
# Submissions whose files came with a fold that a quota refused, and how.
TurnedAway = dict[int, QuotaExceeded]


@dataclass(frozen=True)
class _Code:
    """What is known of a submission: its dataset and the digest of its files."""

    raw_data: RawData
    digest: str


def is_away(error: Exception) -> bool:
    """Tell whether the database or the storage is away for now."""
    return is_outage(error) or isinstance(error, StorageAway)


def post_folds(
    *, owner: User, items: Sequence[Item], turned_away: TurnedAway | None = None
) -> list[Result]:
    """Post folds; return for each the key of its row, or why it was refused.

    Parameters
    ----------
    owner : User
        Whose they are.
    items : sequence of Item
        At most `BATCH_FOLDS`.
    turned_away : dict, optional
        What the batches of one request pass on to each other.

    Returns
    -------
    list
        When the database or the storage goes away, its error for those that were not reached.
    """
    results: dict[int, Result] = {}
    try:
        away = {} if turned_away is None else turned_away
        _post_in_order(owner, dict(enumerate(items)), results, away)
    except Exception as error:
        if not is_away(error):
            raise
        return [results.get(number, error) for number in range(len(items))]
    return [results[number] for number in range(len(items))]


def _post_in_order(
    owner: User,
    items: Mapping[int, Item],
    results: dict[int, Result],
    turned_away: TurnedAway,
    *,
    is_again: bool = False,
) -> None:
    books = _Books(owner, list(items.values()), turned_away, is_again)
    batch: dict[int, Item] = {}
    for number, item in items.items():
        try:
            is_plain = books.admit(item)
        except DatarunError as error:
            results[number] = error
            continue
        if is_plain:
            batch[number] = item
            continue
        _post_batch(owner, batch, books, results)
        batch = {}
        results[number] = _post_alone(owner, item, books.allowance)
        books.look_again(item, is_posted=isinstance(results[number], int))
    _post_batch(owner, batch, books, results)


class _Books:
    """What is known of an account's submissions and folds, those just admitted included."""

    def __init__(
        self, owner: User, items: Sequence[Item], turned_away: TurnedAway, is_again: bool
    ) -> None:
        self._owner = owner
        self._open: set[int] = set()
        self._items = items
        self.turned_away = turned_away
        self.is_again = is_again
        self.read()

    def read(self) -> None:
        """Read what there is, and what the account may still post."""
        self._codes = dict(self._find_codes({item.submission_id for item in self._items}))
        ids = {item.fold_id for item in self._items}
        rows = SubmissionFold.objects.filter(owner=self._owner, databoard_sf_id__in=ids)
        self._phases = dict(rows.values_list("databoard_sf_id", "phase"))
        self.allowance = read_allowance(owner=self._owner)
        self._standing = read_standing(owner=self._owner, allowance=self.allowance)

    def admit(self, item: Item) -> bool:
        """Tell whether an item is plain, and count on it then.

        Raises
        ------
        DatarunError
            When it is refused.
        """
        self._check_turned_away(item)
        if item.force is not Force.NOTHING:
            if self.allowance.limits:
                self._take_forced(item)
            return False
        if item.fold_id in self._phases:
            raise InvalidInput(TAKEN_ID, field="databoard_sf_id", code="unique")
        code = self._find_code(item)
        if code is None:
            return False
        self._check_may_submit(code.raw_data)
        check_rows(item.posted, code.raw_data)
        self._take(item, code.raw_data, is_new_code=item.submission_id not in self._codes)
        self._codes[item.submission_id] = code
        self._phases[item.fold_id] = Phase.WAITING
        return True

    def _check_may_submit(self, raw_data: RawData) -> None:
        if raw_data.pk not in self._open:
            check_may_submit(self._owner, raw_data)
            self._open.add(raw_data.pk)

    def _check_turned_away(self, item: Item) -> None:
        """Refuse a fold whose submission would be there, had a quota not refused it before."""
        refusal = self.turned_away.get(item.submission_id)
        if refusal is not None and item.submission.files is None:
            raise refusal.with_traceback(None)

    def _take_forced(self, item: Item) -> None:
        """Take what a forced item asks for, as far as that can be told without its post."""
        known, sent = self._codes.get(item.submission_id), item.submission
        raw_data = sent.raw_data or (known.raw_data if known else None)
        if raw_data is None:
            return
        is_new_code = known is None or (
            item.force is Force.SUBMISSION
            and sent.files is not None
            and compute_tree_digest(files=sent.files) != known.digest
        )
        self._take(item, raw_data, is_new_code=is_new_code)

    def _take(self, item: Item, raw_data: RawData, *, is_new_code: bool) -> None:
        is_new = item.submission_id not in self._codes
        ask = Ask(
            raw_data_id=raw_data.pk,
            folds=1,
            waiting_folds=int(self._phases.get(item.fold_id) != Phase.WAITING),
            submissions=int(is_new_code),
            n_bytes=item.submission.n_bytes if is_new else 0,
        )
        try:
            self._standing = self._standing.take(ask)
        except QuotaExceeded as refusal:
            if is_new:
                self.turned_away[item.submission_id] = refusal
            raise
        self.turned_away.pop(item.submission_id, None)

    def get_code(self, item: Item) -> _Code:
        """Return what an admitted item's submission is made of."""
        return self._codes[item.submission_id]

    def look_again(self, item: Item, *, is_posted: bool) -> None:
        """Learn what became of an item that was not plain."""
        if not is_posted:
            # What was taken for it is still there, or less than was thought.
            self._standing = read_standing(owner=self._owner, allowance=self.allowance)
        self._codes.pop(item.submission_id, None)
        self._codes.update(self._find_codes({item.submission_id}))
        rows = SubmissionFold.objects.filter(owner=self._owner, databoard_sf_id=item.fold_id)
        self._phases.update(rows.values_list("databoard_sf_id", "phase"))

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


def _post_alone(owner: User, item: Item, allowance: Allowance) -> Result:
    try:
        fold, _ = post_fold(
            owner=owner,
            posted=item.posted,
            submission=item.submission,
            force=item.force,
            allowance=allowance,
        )
    except (InvalidInput, Forbidden, Conflict, QuotaExceeded) as error:
        return error
    return int(fold.pk)


def _post_batch(
    owner: User, batch: Mapping[int, Item], books: _Books, results: dict[int, Result]
) -> None:
    if not batch:
        return
    items = list(batch.values())
    codes = {item.submission_id: books.get_code(item) for item in items}
    try:
        keys = _write(owner, items, codes, _store_trees(items, codes), books.allowance)
    except (QuotaExceeded, IntegrityError, Conflict, FileNotFoundError) as error:
        # Somebody else has posted, replaced or deleted some of it meanwhile.
        if isinstance(error, QuotaExceeded) and not books.is_again:
            # Another look tells what still fits.
            _post_in_order(owner, batch, results, books.turned_away, is_again=True)
        else:
            for number, item in batch.items():
                results[number] = _post_alone(owner, item, books.allowance)
        books.read()
    else:
        results.update(zip(batch, keys, strict=True))


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
    owner: User,
    items: Sequence[Item],
    codes: Mapping[int, _Code],
    trees: Mapping[int, Tree],
    allowance: Allowance,
) -> list[int]:
    with publishing():
        failed = _lock_datasets({code.raw_data.pk for code in codes.values()})
        found = _lock_submissions(owner, codes)
        made = _make_submissions(owner, found, codes, trees)
        submissions = {row.databoard_s_id: row for row in (*found, *made)}
        folds = [
            _make_fold(owner, item, submissions[item.submission_id], counted_on=allowance.day)
            for item in items
        ]
        Submission.objects.bulk_update(submissions.values(), ["n_posted"])
        SubmissionFold.objects.bulk_create(folds)
        note(SubmissionFold)
        keys = [fold.pk for fold in folds]
        if failed:
            fail_waiting(SubmissionFold.objects.filter(pk__in=keys, raw_data__in=failed))
        count_use(owner=owner, allowance=allowance, asks=_list_asks(folds, made))
        open_to_owners(poster=owner, raw_data={fold.raw_data_id for fold in folds})
    return keys


def _list_asks(folds: Sequence[SubmissionFold], made: Sequence[Submission]) -> list[Ask]:
    n_folds = Counter(fold.raw_data_id for fold in folds)
    n_submissions = Counter(row.raw_data_id for row in made)
    return [
        Ask(raw_data_id=pk, folds=count, submissions=n_submissions[pk])
        for pk, count in n_folds.items()
    ]


def _lock_datasets(keys: set[int]) -> list[int]:
    """Lock datasets, as whoever adds folds to them; return those whose split has failed."""
    rows = RawData.objects.select_for_update(no_key=True).filter(pk__in=keys).order_by("pk")
    states = dict(rows.values_list("pk", "state"))
    if len(states) < len(keys):
        raise Conflict("A dataset has just been deleted.")
    return [pk for pk, state in states.items() if state == RawData.State.ERROR]


def _lock_submissions(owner: User, codes: Mapping[int, _Code]) -> list[Submission]:
    rows = Submission.objects.select_for_update(no_key=True)
    found = list(rows.filter(owner=owner, databoard_s_id__in=codes).order_by("pk"))
    for row in found:
        assert row.databoard_s_id is not None
        code = codes[row.databoard_s_id]
        if row.raw_data_id != code.raw_data.pk or row.hash_files != code.digest:
            raise Conflict("A submission changed meanwhile.")
    return found


def _make_submissions(
    owner: User,
    found: Sequence[Submission],
    codes: Mapping[int, _Code],
    trees: Mapping[int, Tree],
) -> list[Submission]:
    known = {row.databoard_s_id for row in found}
    made = [
        Submission(
            owner=owner,
            raw_data=codes[number].raw_data,
            databoard_s_id=number,
            files=dict(trees[number].files),
            hash_files=trees[number].digest,
            n_bytes=trees[number].n_bytes,
        )
        for number in codes
        if number not in known and number in trees
    ]
    if len(found) + len(made) < len(codes):
        raise Conflict("A submission has just been deleted.")
    Submission.objects.bulk_create(made)
    record_submissions(made)
    return made


def _make_fold(
    owner: User, item: Item, submission: Submission, *, counted_on: date
) -> SubmissionFold:
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
        counted_on=counted_on,
        request_id=get_request_id(),
    )
