"""Sharing datasets, and what else changes who sees what.

An account that comes to see rows of others, or ceases to, cannot be told of it by these rows: they
have not changed. It is told to read its lists anew (`feed.note_removal`), whoever changed it and
where: the API, the admin site, or a deletion that took a share, a group or an account along.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib.auth.models import Group, User
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete
from django.dispatch import receiver

from runapp.access import list_audience
from runapp.events import Action
from runapp.exceptions import InvalidInput, NotFound
from runapp.models import (
    DailyUse,
    FairShare,
    Quota,
    RawData,
    Share,
    Submission,
    SubmissionFold,
)
from runapp.services import audit
from runapp.services.feed import note_removal, publishing
from runapp.services.moves import order_locks
from runapp.services.raw_data import lock_raw_data

TAKEN = "This dataset is already shared in this way."


def share_raw_data(
    *, raw_data: RawData, role: str, account: str | None = None, group: str | None = None
) -> Share:
    """Let an account, or the members of a group, use a dataset.

    Parameters
    ----------
    role : str
        One of `Share.Role`.
    account, group : str or None
        The name of the one or of the other.

    Raises
    ------
    InvalidInput
        When there is none of that name, it is the owner's, or the dataset is shared so already.
    NotFound
        When the dataset has just been deleted.
    """
    grantee = _find_grantee(raw_data, account, group)
    try:
        with publishing():
            # Locked first, like by whoever touches a dataset and what belongs to it.
            locked = lock_raw_data(raw_data)
            share = Share.objects.create(raw_data=raw_data, role=role, **grantee)
            audit.record(action=Action.SHARE_MADE, of=share, facts=_tell(share))
            changed = _list_grantees(share)
            if not locked.is_shared:
                # From now on its owner may see folds of others, and is told whose they are.
                RawData.objects.filter(pk=locked.pk).update(is_shared=True)
                changed.add(locked.owner_id)
            note_removal(owner_ids=changed)
    except IntegrityError as error:
        raise InvalidInput(TAKEN, field="role", code="unique") from error
    return share


def open_to_owners(*, poster: User, raw_data: Iterable[int]) -> None:
    """Let owners see what a superuser posts on datasets that were never shared.

    In the transaction that posts it, and last of all: it locks the clock.
    """
    if not poster.is_superuser:
        return
    closed = RawData.objects.filter(pk__in=raw_data, is_shared=False).exclude(owner=poster)
    owners = set(closed.values_list("owner_id", flat=True))
    if owners:
        closed.update(is_shared=True)
        note_removal(owner_ids=owners)


def get_share(*, raw_data: RawData, pk: int) -> Share:
    """Return a share of a dataset.

    Raises
    ------
    NotFound
        When it has none of that id.
    """
    found = raw_data.shares.filter(pk=pk).first()
    if found is None:
        raise NotFound("Not found.")
    return found


def withdraw_share(*, share: Share) -> None:
    """Withdraw a share; folds that were posted by it stay, their owners keep them."""
    with transaction.atomic():
        audit.record(action=Action.SHARE_REMOVED, of=share, facts=_tell(share))
        share.delete()


def _tell(share: Share) -> dict[str, str]:
    if share.group is not None:
        return {"role": share.role, "group": share.group.name}
    assert share.account is not None  # by the table's constraint
    return {"role": share.role, "account": share.account.username}


def _find_grantee(
    raw_data: RawData, account: str | None, group: str | None
) -> dict[str, User | Group]:
    if account is not None:
        user = User.objects.filter(username=account, is_active=True).first()
        if user is None:
            raise InvalidInput("There is no such account.", field="account", code="does_not_exist")
        if user.pk == raw_data.owner_id:
            raise InvalidInput("This account owns the dataset.", field="account")
        return {"account": user}
    found = Group.objects.filter(name=group).first()
    if found is None:
        raise InvalidInput("There is no such group.", field="group", code="does_not_exist")
    return {"group": found}


def _list_grantees(share: Share) -> set[int]:
    if share.account_id is not None:
        return {share.account_id}
    return set(User.objects.filter(groups=share.group_id).values_list("pk", flat=True))


@receiver(pre_delete, sender=Share, dispatch_uid="find_grantees")
def find_grantees(instance: Share, **rest: object) -> None:
    """Find out whom a share lets in, while its group is there."""
    instance.grantees = _list_grantees(instance)


@receiver(post_delete, sender=Share, dispatch_uid="forget_share")
def forget_share(instance: Share, **rest: object) -> None:
    """Let accounts read anew that a share does not let in any more."""
    left = User.objects.filter(pk__in=instance.grantees)  # the rest goes with its share
    note_removal(owner_ids=left.values_list("pk", flat=True))


@receiver(m2m_changed, sender=User.groups.through, dispatch_uid="note_membership")
def note_membership(
    instance: User | Group, action: str, pk_set: set[int] | None, **rest: object
) -> None:
    """Let accounts read anew that join a group or leave it: it may be let in, or of operators."""
    if action not in ("post_add", "post_remove", "pre_clear"):
        return
    if isinstance(instance, User):
        changed = {instance.pk}
    else:
        changed = pk_set or set(instance.user_set.values_list("pk", flat=True))
    with transaction.atomic():
        note_removal(owner_ids=changed)


@receiver(pre_delete, sender=Group, dispatch_uid="note_members")
def note_members(instance: Group, **rest: object) -> None:
    """Let the members of a group read anew that is about to go."""
    # Nothing is locked after the clock: who withdraws a share or leaves the group waits for that.
    Group.objects.select_for_update(no_key=True).filter(pk=instance.pk).first()
    _lock(_list_memberships(group=instance))
    _lock(Share.objects.select_for_update().filter(group=instance))
    note_removal(owner_ids=instance.user_set.values_list("pk", flat=True))


@receiver(post_save, sender=User, dispatch_uid="note_powers")
def note_powers(
    instance: User, created: bool, update_fields: frozenset[str] | None, **rest: object
) -> None:
    """Let an account read anew that may have become a superuser, or ceased to be one."""
    if not created and (update_fields is None or "is_superuser" in update_fields):
        with transaction.atomic():
            note_removal(owner_ids=[instance.pk])


@receiver(post_save, sender=Group, dispatch_uid="note_group_of_another_name")
def note_name(instance: Group, created: bool, **rest: object) -> None:
    """Let the members of a group read anew that may have become the operators', or was it."""
    if not created:
        with transaction.atomic():
            note_removal(owner_ids=instance.user_set.values_list("pk", flat=True))


@receiver(pre_delete, sender=User, dispatch_uid="forget_account")
def forget_account(instance: User, **rest: object) -> None:
    """Let all who see rows of an account read anew, as it is about to go with them."""
    _lock_account(instance)
    folds = SubmissionFold.objects.filter(owner=instance).exclude(raw_data__owner=instance)
    raw_data = set(folds.order_by().values_list("raw_data_id", flat=True).distinct())
    note_removal(owner_ids=list_audience(raw_data))


def _lock_account(account: User) -> None:
    """Lock an account and all that goes with it, in the order in which everybody does."""
    # Not its key: who holds the clock asks for it when he commits (`feed.py`).
    User.objects.select_for_update(no_key=True).filter(pk=account.pk).first()
    on = Q(owner=account) | Q(raw_data__owner=account)
    used = SubmissionFold.objects.filter(owner=account).order_by().values("raw_data")
    datasets = RawData.objects.filter(Q(owner=account) | Q(pk__in=used)).order_by("pk")
    submissions = Submission.objects.filter(on).order_by("pk")
    _lock(datasets.select_for_update(no_key=True))
    _lock(submissions.select_for_update(no_key=True))
    _lock(order_locks(SubmissionFold.objects.filter(on)))
    _lock(_list_memberships(user=account))
    _lock(Share.objects.select_for_update().filter(Q(account=account) | Q(raw_data__owner=account)))
    for model in (FairShare, DailyUse):
        _lock(model._default_manager.select_for_update().filter(owner=account).order_by("pk"))
    _lock(Quota.objects.select_for_update().filter(account=account))


def _list_memberships(**whose: User | Group) -> QuerySet[Any]:
    return User.groups.through._default_manager.select_for_update().filter(**whose)


def _lock(rows: QuerySet[Any]) -> None:
    list(rows.values_list("pk"))
