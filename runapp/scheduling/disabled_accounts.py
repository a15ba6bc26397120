"""Accounts: enabling and disabling them with all that is theirs.

Tokens, passwords and sessions of a disabled account are refused where they are read. What it has
waiting is passed over by the claims, which ask for the account as they do for a pause. What it has
running is taken from the workers here, and goes back to the queue: nothing is lost when the account
is enabled again.
"""

from __future__ import annotations

from collections.abc import Collection

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models.signals import post_save
from django.dispatch import receiver

from runapp.changes.feed import publishing
from runapp.models import RawData, SubmissionFold
from runapp.scheduling.outcomes import requeue_running
from runapp.scheduling.queue import lock_claims


def disable_account(*, account: User) -> None:
    """Stop everything of an account at once."""
    _set_active(account, is_active=False)


def enable_account(*, account: User) -> None:
    """Let an account sign in again; the workers find by themselves that its folds may go on."""
    _set_active(account, is_active=True)


def _set_active(account: User, *, is_active: bool) -> None:
    account.is_active = is_active
    with transaction.atomic():
        account.save(update_fields=["is_active"])


@receiver(post_save, sender=User, dispatch_uid="follow_account")
def follow_account(
    instance: User,
    created: bool,
    raw: bool = False,
    update_fields: Collection[str] | None = None,
    **rest: object,
) -> None:
    """Stop the work of an account that was saved as a disabled one, whoever did it."""
    is_other = update_fields is not None and "is_active" not in update_fields
    if not (instance.is_active or created or raw or is_other):
        stop_work(account=instance)


def stop_work(*, account: User) -> None:
    """Take what an account has running from the workers, and put it back into the queue."""
    with publishing():
        # Like whoever else touches both: the datasets before the claims' lock, the folds after it.
        RawData.objects.filter(owner=account, split_phase=RawData.SplitPhase.RUNNING).update(
            split_phase=RawData.SplitPhase.WAITING
        )
        # What was claimed a moment before is there to be taken; nothing is claimed after it, as the
        # account's row has been written by now.
        lock_claims()
        requeue_running(SubmissionFold.objects.filter(owner=account))
