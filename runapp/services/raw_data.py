"""Datasets: create, change, delete, and ask for a split."""

from __future__ import annotations

from collections.abc import Mapping

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import F
from django.db.models.functions import Now
from django.db.models.signals import post_delete, pre_delete
from django.dispatch import receiver

from runapp import dispatch
from runapp.access import list_audience
from runapp.allowance import Allowance, Ask, read_allowance
from runapp.events import Action
from runapp.exceptions import Conflict, InvalidInput, NotFound, SpecificModuleMissing
from runapp.models import RawData, SubmissionFold
from runapp.queue import lock_claims
from runapp.services import audit
from runapp.services.feed import note, note_removal, publishing, touch
from runapp.services.moves import order_locks, requeue_running
from runapp.services.quotas import check_room, count_use
from runapp.storage import Kind

TAKEN_NAME = "RawData with this name already exists."


def create_raw_data(
    *,
    owner: User,
    name: str,
    target_column: str,
    workflow_elements: str,
    files: Mapping[str, bytes],
    limits: Mapping[str, float | None],
    fail_fast: bool = False,
    allowance: Allowance | None = None,
) -> RawData:
    """Store a dataset, completely or not at all.

    Parameters
    ----------
    allowance : Allowance, optional
        What the account may have, where that is known already.

    Raises
    ------
    InvalidInput
        When the account has a dataset of that name, or several modules of which none is named
        `specific.py`.
    SpecificModuleMissing
        When there are several files and no Python module.
    QuotaExceeded
        When the account may not store so much.
    """
    _check_files(files)
    if RawData.objects.filter(owner=owner, name=name).exists():
        raise InvalidInput(TAKEN_NAME, field="name", code="unique")
    allowance = allowance or read_allowance(owner=owner)
    ask = Ask(raw_data_id=0, n_bytes=sum(map(len, files.values())))
    check_room(owner=owner, allowance=allowance, ask=ask)
    raw_data = RawData(
        owner=owner,
        name=name,
        target_column=target_column,
        workflow_elements=workflow_elements,
        limits={key: value for key, value in limits.items() if value is not None},
        fail_fast=fail_fast,
        n_bytes=ask.n_bytes,
    )
    try:
        raw_data.files = dict(raw_data.bin.write_tree(kind=Kind.RAW, files=files).files)
        with publishing():
            raw_data.save(force_insert=True)
            note(RawData)
            count_use(owner=owner, allowance=allowance, asks=[ask])
            audit.record(action=Action.RAW_DATA_POSTED, of=raw_data, facts={"name": name})
    except IntegrityError as error:
        raw_data.bin.remove()
        raise InvalidInput(TAKEN_NAME, field="name", code="unique") from error
    except BaseException:
        raw_data.bin.remove()
        raise
    return raw_data


def change_raw_data(
    *,
    raw_data: RawData,
    limits: Mapping[str, float | None] | None = None,
    paused: bool | None = None,
    fail_fast: bool | None = None,
) -> RawData:
    """Change what may change of a dataset; what is None stays.

    Parameters
    ----------
    limits : mapping of str to float or None, optional
        Some of the limits; None goes back to the server's default.
    paused : bool, optional
        Whether waiting folds stay where they are. Running ones, and a split, go on.
    fail_fast : bool, optional
        Whether a fold that fails before `fit` ends the waiting ones of the same code.
    """
    with publishing():
        locked = lock_raw_data(raw_data)
        merged = {**locked.limits, **(limits or {})}
        locked.limits = {key: value for key, value in merged.items() if value is not None}
        locked.paused = locked.paused if paused is None else paused
        locked.fail_fast = locked.fail_fast if fail_fast is None else fail_fast
        touch(
            RawData.objects.filter(pk=locked.pk),
            limits=locked.limits,
            paused=locked.paused,
            fail_fast=locked.fail_fast,
        )
        asked = {"limits": limits and dict(limits), "paused": paused, "fail_fast": fail_fast}
        facts = {key: value for key, value in asked.items() if value is not None}
        audit.record(action=Action.RAW_DATA_CHANGED, of=locked, facts=facts)
        if paused is False:
            dispatch.ring()
    return locked


def delete_raw_data(*, raw_data: RawData) -> None:
    """Delete a dataset with its files, submissions and folds.

    A running fold's worker finds its row gone at the next heartbeat and kills it.
    """
    with transaction.atomic():
        # First of all the dataset, like whoever else touches it and its folds. Then the folds, like
        # a worker that records: what refers to them goes only once no worker can add to it.
        locked = lock_raw_data(raw_data)
        folds = SubmissionFold.objects.filter(raw_data=locked)
        list(order_locks(folds).values_list("pk"))
        locked.delete()


@receiver(pre_delete, sender=RawData, dispatch_uid="find_audience")
def find_audience(instance: RawData, **rest: object) -> None:
    """Find out who sees a dataset or has folds on it, while it is there."""
    owners = SubmissionFold.objects.filter(raw_data=instance).order_by().values_list("owner_id")
    instance.audience = list_audience([instance.pk]) | {key for (key,) in owners.distinct()}


@receiver(post_delete, sender=RawData, dispatch_uid="forget_raw_data")
def forget_raw_data(instance: RawData, **rest: object) -> None:
    """Forget a deleted dataset, whoever deleted it: an account takes its datasets along."""
    audit.record(action=Action.RAW_DATA_DELETED, of=instance, facts={"name": instance.name})
    note_removal(owner_ids=instance.audience)
    transaction.on_commit(instance.bin.remove, robust=True)


def request_split(
    *, raw_data: RawData, held_out_test: float, random_state: int, force: bool
) -> str:
    """Ask for a split of a CSV dataset; return the task's id.

    Raises
    ------
    InvalidInput
        When the dataset has a module of its own.
    Conflict
        When it has folds and `force` is false.
    """
    if raw_data.specific_module is not None:
        raise InvalidInput("This dataset has its own module; use customsplit.", field="raw_data_id")
    request = {"held_out_test": held_out_test, "random_state": random_state}
    return _request(raw_data, request=request, force=force)


def request_custom_split(*, raw_data: RawData, force: bool) -> str:
    """Ask for a split by the dataset's own module; return the task's id.

    Raises
    ------
    InvalidInput
        When the dataset has none.
    Conflict
        When it has folds and `force` is false.
    """
    if raw_data.specific_module is None:
        raise InvalidInput("This dataset has no specific.py; use split.", field="raw_data_id")
    return _request(raw_data, request={}, force=force)


def _request(raw_data: RawData, *, request: Mapping[str, float], force: bool) -> str:
    folds = SubmissionFold.objects.filter(submission__raw_data=raw_data)
    with publishing():
        rows = RawData.objects.filter(pk=lock_raw_data(raw_data).pk)
        if not force and folds.exists():
            raise Conflict("This dataset has folds; send force to split it again.")
        touch(
            rows,
            state=RawData.State.SPLITTING,
            error_code=None,
            log_messages="",
            split_phase=RawData.SplitPhase.WAITING,
            split_request=dict(request),
            # A split that runs now has another number and is refused when it comes to record.
            split_attempt=F("split_attempt") + 1,
            split_failures=0,
            split_queued_at=Now(),
            split_lease_expires_at=None,
        )
        # Or a claim between the look at what runs and the commit would go on with the old parts.
        lock_claims()
        requeue_running(folds)
        facts = {**request, "force": force}
        audit.record(action=Action.SPLIT_REQUESTED, of=raw_data, facts=facts)
        return dispatch.ring()


def lock_raw_data(raw_data: RawData) -> RawData:
    """Lock a dataset, first of all, in the transaction of whoever changes it; return it anew.

    Raises
    ------
    NotFound
        When it has just been deleted.
    """
    # Not its key, for which a fold's worker asks when it commits (`feed.py`).
    rows = RawData.objects.select_for_update(no_key=True).filter(pk=raw_data.pk)
    locked: RawData | None = rows.first()
    if locked is None:
        raise NotFound("This dataset has just been deleted.")
    return locked


def _check_files(files: Mapping[str, bytes]) -> None:
    modules = [name for name in files if name.endswith(".py")]
    if len(files) > 1 and not modules:
        raise SpecificModuleMissing("Submit a specific.py when submitting several files")
    if len(modules) > 1 and "specific.py" not in modules:
        raise InvalidInput(
            "There are several Python files, and none is named specific.py.", field="files"
        )
