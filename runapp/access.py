"""Who sees what, and who may do what with it.

An account has its own datasets, submissions and folds, and sees all folds on its datasets. A share
lets others in: who may `submit` on a dataset sees it and posts folds on it, which are his own; who
may `read` it sees everybody's folds on it, with their results; who may `manage` it may do both, and
change it. Operators see the state and the use of everything, and neither data nor code nor results.
A superuser is everybody's equal.

What one may not see does not exist for him (404); what he sees and may not do is refused (403).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar, cast

from django.conf import settings
from django.contrib.auth.models import Group, User
from django.db.models import Exists, Model, OuterRef, Q, QuerySet, Subquery, Value

from runapp.exceptions import Forbidden
from runapp.models import Clock, RawData, Share, SubmissionFold

Role = Share.Role
Roles = frozenset[str]

SUBMITTERS: Roles = frozenset({Role.SUBMIT, Role.MANAGE})
READERS: Roles = frozenset({Role.READ, Role.MANAGE})
MANAGERS: Roles = frozenset({Role.MANAGE})
ANYBODY: Roles = frozenset(Role.values)
NOBODY_ELSE: Roles = frozenset()

# In the place of a role: of the account's own dataset, and, beside no dataset's key, of all and
# the clock's, whose value is in the key's place.
_OWN = "own"
_OPERATOR = "operator"
_CLOCK = "clock"
_NOWHERE = 0

Row = TypeVar("Row", bound=Model)


@dataclass(frozen=True)
class Scope:
    """Whose rows an account sees.

    Parameters
    ----------
    account : User
        Who asks.
    clock : int
        The number of the latest change when this was so.
    is_operator : bool
        Whether he sees the states of everything.
    roles : mapping of int to frozenset of str, optional
        The datasets of others that are shared with him, by key, and what he may do there.
    opened : frozenset of int, optional
        The keys of his own datasets on which others may have folds.
    """

    account: User
    clock: int
    is_operator: bool = False
    roles: Mapping[int, Roles] = field(default_factory=dict)
    opened: frozenset[int] = frozenset()

    @property
    def sees_all(self) -> bool:
        """Whether every account's rows are seen."""
        return self.is_operator or self.account.is_superuser

    @property
    def is_alone(self) -> bool:
        """Whether only the account's own rows are seen."""
        return not (self.sees_all or self.roles or self.opened)

    @cached_property
    def read(self) -> frozenset[int]:
        """The keys of the datasets on which everybody's folds are seen."""
        return self.opened | {key for key, roles in self.roles.items() if roles & READERS}

    def keep_raw_data(self, rows: QuerySet[RawData]) -> QuerySet[RawData]:
        """Keep the datasets that are seen."""
        return self._keep(rows, Q(pk__in=self.roles) if self.roles else None)

    def keep_folds(self, rows: QuerySet[Row]) -> QuerySet[Row]:
        """Keep the folds, or the submissions, that are seen."""
        return self._keep(rows, Q(raw_data__in=self.read) if self.read else None)

    def keep_readable(self, rows: QuerySet[SubmissionFold]) -> QuerySet[SubmissionFold]:
        """Keep the folds whose results are seen."""
        return rows if self.account.is_superuser else self._narrow(rows, Q(raw_data__in=self.read))

    def may(self, roles: Roles, *, raw_data_id: int, owner_id: int) -> bool:
        """Tell whether a row may be used as one of the roles may.

        Parameters
        ----------
        roles : frozenset of str
            Any of them suffices.
        raw_data_id : int
            The dataset, or that of the fold.
        owner_id : int
            Whose row it is.
        """
        is_own = owner_id == self.account.pk or raw_data_id in self.opened
        has_role = not roles.isdisjoint(self.roles.get(raw_data_id, ()))
        return is_own or has_role or self.account.is_superuser

    def may_steer(self, row: RawData | SubmissionFold) -> bool:
        """Tell whether waiting work may be cancelled, held or put forward."""
        raw_data_id = row.raw_data_id if isinstance(row, SubmissionFold) else row.pk
        return self.is_operator or self.may(
            MANAGERS, raw_data_id=raw_data_id, owner_id=row.owner_id
        )

    def check_raw_data(self, raw_data: RawData, roles: Roles) -> None:
        """Check that a dataset may be used as one of the roles may.

        Raises
        ------
        Forbidden
            When it may not.
        """
        if not self.may(roles, raw_data_id=raw_data.pk, owner_id=raw_data.owner_id):
            raise Forbidden(_describe(roles))

    def _keep(self, rows: QuerySet[Row], others: Q | None) -> QuerySet[Row]:
        return rows if self.sees_all else self._narrow(rows, others)

    def _narrow(self, rows: QuerySet[Row], others: Q | None) -> QuerySet[Row]:
        own = Q(owner=self.account)
        return rows.filter(own if others is None else own | others)


def read_scope(account: User) -> Scope:
    """Return whose rows an account sees; at most one query."""
    # Known of an account that `with_scope` has found.
    known: int | None = getattr(account, "clock", None)
    if known is not None and (account.is_superuser or getattr(account, "is_alone", False)):
        return Scope(account, known)
    grounds = list(_list_grounds(account))
    clock = next(key for key, role in grounds if role == _CLOCK) if known is None else known
    roles: dict[int, set[str]] = {}
    for key, role in grounds:
        if role != _CLOCK:
            roles.setdefault(key, set()).add(role)
    if account.is_superuser:
        return Scope(account, clock)
    is_operator = _OPERATOR in roles.pop(_NOWHERE, ())
    opened = frozenset(key for key, found in roles.items() if _OWN in found)
    shared = {key: frozenset(found) for key, found in roles.items() if key not in opened}
    return Scope(account, clock, is_operator=is_operator, roles=shared, opened=opened)


def with_scope(rows: QuerySet[Row], *, account: str = "pk") -> QuerySet[Row]:
    """Add to rows whether their account sees its own rows only (`is_alone`), and when (`clock`).

    Parameters
    ----------
    rows : QuerySet
        Of accounts, or of what belongs to one.
    account : str, optional
        The field that holds the account's key.
    """
    me = OuterRef(account)
    # Each is found by an index; a single condition over all would not be.
    sees_others = (
        Q(Exists(Share.objects.filter(account=me)))
        | Q(Exists(Share.objects.filter(group__user=me)))
        | Q(Exists(RawData.objects.filter(owner=me, is_shared=True)))
        | Q(Exists(_list_operators_groups().filter(user=me)))
    )
    clock = Subquery(Clock.objects.values("value")[:1])
    annotated: Any = rows.annotate(is_alone=~sees_others, clock=clock)
    return cast(QuerySet[Row], annotated)


def check_may_submit(account: User, raw_data: RawData) -> None:
    """Check that an account may post folds on a dataset, as things stand now.

    Raises
    ------
    Forbidden
        When it may not, or no longer.
    """
    if account.is_superuser or raw_data.owner_id == account.pk:
        return
    shares = _list_shares(account).filter(raw_data=raw_data, role__in=SUBMITTERS)
    if not shares.exists():
        raise Forbidden(_describe(SUBMITTERS))


def list_audience(raw_data: Iterable[int]) -> set[int]:
    """Return the keys of the accounts that see some datasets, their owners among them."""
    shares = Share.objects.filter(raw_data__in=raw_data).values_list("account", "group__user")
    owners = RawData.objects.filter(pk__in=raw_data).values_list("owner", "owner")
    return {key for pair in shares.union(owners) for key in pair if key is not None}


def _list_grounds(account: User) -> Iterable[tuple[int, str]]:
    """Return all by which an account sees the rows of others, and the clock, in one query."""
    own = RawData.objects.filter(owner=account, is_shared=True)
    operator = _list_operators_groups().filter(user=account)
    return (
        _list_shares(account)
        .values_list("raw_data_id", "role")
        .union(
            own.values_list("pk", Value(_OWN)),
            operator.values_list(Value(_NOWHERE), Value(_OPERATOR)),
            Clock.objects.values_list("value", Value(_CLOCK)),
        )
    )


def _list_shares(account: User) -> QuerySet[Share]:
    return Share.objects.filter(Q(account=account) | Q(group__user=account))


def _list_operators_groups() -> QuerySet[Group]:
    return Group.objects.filter(name=settings.OPERATORS_GROUP)


def _describe(roles: Roles) -> str:
    what = {SUBMITTERS: "submit to", READERS: "read", MANAGERS: "change", ANYBODY: "use"}
    return f"You may not {what.get(roles, 'delete or share')} this dataset."
