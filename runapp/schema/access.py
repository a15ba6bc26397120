"""Accounts, tokens, shares and the audit: what their endpoints take and answer."""

from __future__ import annotations

from runapp.schema.lists import describe_list
from runapp.schema.operations import Answer, Operation, describe
from runapp.schema.types import list_of, refer
from runapp.serializers import PasswordInput, ShareInput, TokenInput
from runapp.views import account, audit, passwords, shares, tokens

SHARES, ACCOUNTS = "Shares", "Accounts"
OWNER = refer("parameters", "owner")

describe(
    shares.ShareList,
    get=Operation(
        id="listShares",
        tag=SHARES,
        summary="List who else may use a dataset",
        answers={200: Answer("The shares.", list_of(refer("schemas", "Share")))},
        refusals={403: "", 404: ""},
    ),
    post=Operation(
        id="postShare",
        tag=SHARES,
        summary="Let an account or a group use a dataset",
        description="Only the owner of the dataset can do this.",
        body=ShareInput,
        answers={
            201: Answer(
                "The share.",
                refer("schemas", "Share"),
                links={
                    "withdraw": {
                        "operationId": "deleteShare",
                        "parameters": {"id": "$request.path.id", "share": "$response.body#/id"},
                    }
                },
            )
        },
        refusals={403: "", 404: ""},
    ),
)
describe(
    shares.ShareDetail,
    delete=Operation(
        id="deleteShare",
        tag=SHARES,
        summary="Withdraw a share",
        description="Folds that were posted through it stay.",
        answers={204: Answer("It was deleted.")},
        refusals={403: "", 404: ""},
    ),
)
describe(
    tokens.TokenList,
    get=Operation(
        id="listTokens",
        tag=ACCOUNTS,
        summary="List the account's tokens",
        parameters=(OWNER,),
        answers={
            200: Answer("The tokens that have not expired.", list_of(refer("schemas", "Token")))
        },
        refusals={403: "", 404: ""},
    ),
    post=Operation(
        id="postToken",
        tag=ACCOUNTS,
        summary="Create a token",
        parameters=(OWNER,),
        body=TokenInput,
        rules={"unevaluatedProperties": False},
        answers={
            201: Answer(
                "The token and its key.",
                refer("schemas", "NewToken"),
                links={
                    "revoke": {
                        "operationId": "deleteToken",
                        "parameters": {"public_id": "$response.body#/id"},
                    }
                },
            )
        },
        refusals={
            403: "A token cannot be used to create tokens.",
            404: "",
            409: "The account has too many tokens.",
        },
    ),
)
describe(
    tokens.TokenDetail,
    delete=Operation(
        id="deleteToken",
        tag=ACCOUNTS,
        summary="Revoke a token",
        parameters=(OWNER,),
        answers={204: Answer("The token is no longer valid.")},
        refusals={403: "", 404: ""},
    ),
)
describe(
    passwords.Password,
    post=Operation(
        id="changePassword",
        tag=ACCOUNTS,
        summary="Change the account's password",
        description="Other sessions of the account end; its tokens remain valid.",
        body=PasswordInput,
        answers={204: Answer("The new password is in force.")},
        refusals={403: "A token cannot be used to change the password."},
    ),
)
describe(
    account.AccountView,
    get=Operation(
        id="getAccount",
        tag=ACCOUNTS,
        summary="Get the account and its quotas",
        parameters=(OWNER,),
        answers={200: Answer("The account.", refer("schemas", "Account"))},
        refusals={403: "", 404: ""},
    ),
)
describe_list(
    audit.AuditList,
    row="ListedAuditEvent",
    id="listAuditEvents",
    tag="Audit",
    summary="List what was done and by whom",
    refusals={403: "Only operators and superusers can do this."},
)
