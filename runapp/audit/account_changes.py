"""Changes of accounts, groups and tokens, as the audit tells of them.

They are made in many places: by the admin site, by commands, by Django's own forms. So the tables
themselves tell of them, whoever changes a row. What is done by `update()` of a query is not told:
change accounts by `save()`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from django.contrib.auth.models import Group, User
from django.db.models import Model, QuerySet
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_save
from django.dispatch import receiver
from django.utils import timezone

from runapp.audit import record as audit
from runapp.audit.record import Entry
from runapp.models import AccessToken
from runapp.models.audit import Action

_NAMES = ("username", "first_name", "last_name", "email")
_ROLES = ("is_staff", "is_superuser")
_WATCHED = {User: (*_NAMES, *_ROLES, "is_active", "password"), Group: ("name",)}
Values = dict[str, Any]


@receiver(pre_save, sender=User, dispatch_uid="audit_user_before")
@receiver(pre_save, sender=Group, dispatch_uid="audit_group_before")
def look_before(
    sender: type[Model],
    instance: Any,
    raw: bool,
    update_fields: Collection[str] | None,
    **rest: object,
) -> None:
    """Remember what a row was before it is saved."""
    watched = _WATCHED[sender]
    is_watched = update_fields is None or not set(watched).isdisjoint(update_fields)
    rows = sender._default_manager.filter(pk=instance.pk)
    has_been = not raw and is_watched and not instance._state.adding
    instance.audited_before = rows.values(*watched).first() if has_been else None


@receiver(post_save, sender=User, dispatch_uid="audit_user")
def note_account(
    instance: Any,
    created: bool,
    raw: bool,
    update_fields: Collection[str] | None,
    **rest: object,
) -> None:
    """Write down that an account was made, or what was changed about it."""
    if raw:  # loaded with the events of its own
        return
    if created:
        roles = {name: True for name in _ROLES if getattr(instance, name)}
        audit.record(action=Action.ACCOUNT_MADE, of=instance, facts=roles)
        return
    before: Values | None = instance.audited_before
    if before is None:
        return
    changed = {name: old for name, old in before.items() if old != getattr(instance, name)}
    # A hash that sign-in has replaced by a stronger one is of the same password.
    if instance._password is None and set(update_fields or ()) == {"password"}:
        changed.pop("password", None)
    audit.record_many(list(_tell_changes(instance, changed)))


def _tell_changes(account: User, changed: Values) -> Iterator[Entry]:
    """Yield an entry for each aspect of an account that has changed, from its old values."""
    if names := [name for name in _NAMES if name in changed]:
        was = {"was": changed["username"]} if "username" in changed else {}
        yield Entry(Action.ACCOUNT_CHANGED, account, {"fields": names, **was})
    if "is_active" in changed:
        yield Entry(
            Action.ACCOUNT_ENABLED if account.is_active else Action.ACCOUNT_DISABLED, account
        )
    if roles := {name: getattr(account, name) for name in _ROLES if name in changed}:
        yield Entry(Action.ROLES_CHANGED, account, roles)
    if "password" in changed:
        yield Entry(Action.PASSWORD_CHANGED, account)


@receiver(post_delete, sender=User, dispatch_uid="audit_deleted_user")
def note_deleted_account(instance: User, **rest: object) -> None:
    """Write down that an account is gone; its datasets tell of themselves."""
    audit.record(action=Action.ACCOUNT_DELETED, of=instance)


@receiver(post_save, sender=Group, dispatch_uid="audit_group")
def note_group(instance: Any, created: bool, raw: bool, **rest: object) -> None:
    """Write down that a group was made or renamed."""
    if raw:
        return
    before: Values | None = instance.audited_before
    facts = {"name": instance.name}
    if created:
        audit.record(action=Action.GROUP_MADE, of=instance, facts=facts)
    elif before is not None and before["name"] != instance.name:
        facts["was"] = before["name"]
        audit.record(action=Action.GROUP_CHANGED, of=instance, facts=facts)


@receiver(post_delete, sender=Group, dispatch_uid="audit_deleted_group")
def note_deleted_group(instance: Group, **rest: object) -> None:
    """Write down that a group is gone, and with it what its members were by it."""
    audit.record(action=Action.GROUP_DELETED, of=instance, facts={"name": instance.name})


# All are cleared before it is known which they were.
_VERBS = {"post_add": "added", "post_remove": "removed", "pre_clear": "removed"}


@receiver(m2m_changed, sender=User.groups.through, dispatch_uid="audit_memberships")
@receiver(m2m_changed, sender=User.user_permissions.through, dispatch_uid="audit_permissions")
@receiver(m2m_changed, sender=Group.permissions.through, dispatch_uid="audit_group_permissions")
def note_roles(
    sender: type[Model],
    instance: Any,
    action: str,
    reverse: bool,
    model: type[Model],
    pk_set: set[int] | None,
    **rest: object,
) -> None:
    """Write down what was given to an account or a group, or taken from it."""
    verb = _VERBS.get(action)
    if verb is None:
        return
    keys = _list_linked(sender, instance, model) if pk_set is None else pk_set
    others = list(model._default_manager.filter(pk__in=keys).order_by("pk"))
    if reverse:  # from the other end: a group's accounts, a permission's holders
        told = [(other, [str(instance)]) for other in others]
    else:
        told = [(instance, [str(other) for other in others])] if others else []
    audit.record_many(Entry(Action.ROLES_CHANGED, who, {verb: what}) for who, what in told)


def _list_linked(through: type[Model], instance: Any, model: type[Model]) -> QuerySet[Any]:
    """Return the keys of what an instance is linked to."""
    links = through._default_manager.filter(**{instance._meta.model_name: instance.pk})
    return links.values(str(model._meta.model_name))


@receiver(post_save, sender=AccessToken, dispatch_uid="audit_token")
def note_token(instance: AccessToken, created: bool, raw: bool, **rest: object) -> None:
    """Write down that a token was made."""
    if created and not raw:
        expiry = instance.expiry and instance.expiry.isoformat()
        audit.record(
            action=Action.TOKEN_MADE, of=instance, facts={"name": instance.name, "expiry": expiry}
        )


@receiver(post_delete, sender=AccessToken, dispatch_uid="audit_deleted_token")
def note_revoked_token(instance: AccessToken, origin: Any, **rest: object) -> None:
    """Write down that a token was revoked; not of one that has expired or goes with its account."""
    has_expired = instance.expiry is not None and instance.expiry < timezone.now()
    if not has_expired and getattr(origin, "model", type(origin)) is not User:
        audit.record(action=Action.TOKEN_REVOKED, of=instance, facts={"name": instance.name})
