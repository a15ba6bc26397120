"""The environment variables that datarun reads: name, default and meaning, each said once.

`python -m datarun.variables` prints them as docs/settings.md (`make settings`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Variable:
    """A setting.

    Its default is None where the code works it out; `otherwise` then describes it.
    """

    name: str
    default: int | str | None
    meaning: str
    least: int = 0
    otherwise: str = ""

    def describe_default(self) -> str:
        if self.otherwise:
            return self.otherwise
        return f"`{self.default}`" if isinstance(self.default, str) else str(self.default)


_MOST = "The most that a dataset may ask for: "

SUBJECTS: dict[str, tuple[Variable, ...]] = {
    "Data": (
        Variable(
            "DATARUN_HOME",
            None,
            "The folder that holds everything datarun writes. It is created with mode 0700.",
            otherwise="`var/` in the project",
        ),
        Variable(
            "DATARUN_SECRET_KEY",
            None,
            "The signing key.",
            otherwise="created on first use, in `secret_key` in the home",
        ),
        Variable(
            "DATABASE_URL",
            None,
            "The database. For PostgreSQL: `postgres://user:password@host:5432/name`; options go "
            "into the query string.",
            otherwise="SQLite in the home",
        ),
        Variable(
            "CELERY_BROKER_URL",
            None,
            "The broker: `amqp://...` (RabbitMQ) or `redis://...`.",
            otherwise="files in the home",
        ),
        Variable(
            "DATARUN_STORAGE_URL",
            None,
            "The storage for blobs: a folder, such as `file:///srv/datarun`, or "
            "`s3://bucket/prefix`.",
            otherwise="`storage/` in the home",
        ),
        Variable(
            "DATARUN_CACHE_MB",
            10_240,
            "With `s3://`: the size of each machine's cache of blobs, which is in the home.",
            least=1,
        ),
        Variable(
            "DATARUN_LEAST_FREE_MB",
            1024,
            "The free disk space below which a machine is not ready (`/health/ready`). "
            "0 turns the check off.",
        ),
    ),
    "Web server": (
        Variable("DATARUN_PORT", 8000, "The port of `serve`. 0 picks a free one."),
        Variable(
            "DATARUN_ALLOWED_HOSTS",
            "127.0.0.1,localhost,[::1]",
            "The host names that the server answers to.",
        ),
        Variable(
            "DATARUN_TRUSTED_ORIGINS",
            "",
            "Origins trusted for browser forms, with their scheme.",
            otherwise="none",
        ),
        Variable(
            "DATARUN_CORS_ORIGINS",
            "",
            "Origins whose scripts may use the API, with their scheme. They sign in with a token "
            "or a password; cookies are not accepted.",
            otherwise="none",
        ),
        Variable(
            "DATARUN_TLS",
            "off",
            "Turn it on behind your own web server that terminates TLS and sets "
            "`X-Forwarded-Proto`: datarun then redirects to https, sends HSTS, and sets cookies "
            "for https only.",
        ),
        Variable(
            "DATARUN_PROXIES",
            0,
            "The number of your own proxies in front of the web server, whose `X-Forwarded-For` "
            "is trusted.",
        ),
        Variable(
            "DATARUN_WEB_THREADS",
            16,
            "The number of requests that each web server process handles at once.",
            least=1,
        ),
        Variable(
            "DATARUN_WEB_WAITERS",
            32,
            "The number of further requests that it holds open until there is something new.",
        ),
        Variable(
            "DATARUN_DEBUG",
            "off",
            "Django's debug mode. Never turn it on for a server that others can reach.",
        ),
    ),
    "Accounts": (
        Variable(
            "DATARUN_ORGANISERS",
            "",
            "The group whose members may post datasets. If it is not set, every account may.",
            otherwise="none",
        ),
        Variable(
            "DATARUN_OPERATORS",
            "operators",
            "The group whose members see the state of everything, also at `/ops/`, and may "
            "cancel, pause, re-prioritise and rerun.",
        ),
        Variable(
            "DATARUN_SIGN_IN_FAILURES",
            10,
            "The number of wrong passwords for one name from one address that locks that name for "
            "that address. Ten times as many, under any names, lock the address.",
            least=1,
        ),
        Variable("DATARUN_LOCKOUT_SECONDS", 900, "How long such a lock lasts.", least=1),
    ),
    "Quotas and throttling": (
        Variable(
            "DATARUN_QUOTA_STORED_MB",
            None,
            "How much an account may store, in MB of datasets, code and predictions, unless the "
            "account has a quota of its own.",
            otherwise="unlimited",
        ),
        Variable(
            "DATARUN_QUOTA_WAITING_FOLDS",
            None,
            "Likewise: folds that wait at the same time.",
            otherwise="unlimited",
        ),
        Variable(
            "DATARUN_QUOTA_FOLDS_PER_DAY",
            None,
            "Likewise: folds posted per day (UTC).",
            otherwise="unlimited",
        ),
        Variable(
            "DATARUN_QUOTA_SUBMISSIONS_PER_DAY",
            None,
            "Likewise: submissions per day to each dataset.",
            otherwise="unlimited",
        ),
        Variable(
            "DATARUN_REQUESTS_PER_MINUTE",
            None,
            "The number of requests an account may make per minute. 0 means no limit.",
            otherwise="6000; with SQLite 0",
        ),
        Variable(
            "DATARUN_CACHE_URL",
            None,
            "`redis://...`, so that all web processes count requests together.",
            otherwise="the memory of each process",
        ),
    ),
    "Workers": (
        Variable(
            "DATARUN_SLOTS",
            None,
            "The number of folds that run at once. With 0, `serve` starts no worker.",
            otherwise="number of cores",
        ),
        Variable(
            "DATARUN_REQUIRED_PROMISES",
            "network,files,labels",
            "The promises that a worker must keep before it takes work. An empty value requires "
            "none.",
        ),
        Variable(
            "DATARUN_SHUTDOWN_GRACE_SECONDS",
            10,
            "How long running folds may continue after a stop.",
        ),
        Variable(
            "DATARUN_LEASE_SECONDS",
            20,
            "How long a claim is valid without a sign of life from its worker.",
            least=2,
        ),
        Variable(
            "DATARUN_HEARTBEAT_SECONDS",
            5,
            "How often a worker renews its claims. Keep it well below the lease.",
            least=1,
        ),
        Variable(
            "DATARUN_ACCOUNT_CAP",
            0,
            "The most folds of one account that run at once. 0 means no cap.",
        ),
        Variable(
            "DATARUN_MAX_ATTEMPTS",
            3,
            "How often a fold or split may fail through a fault of datarun's before it ends in "
            "`ERROR`.",
            least=1,
        ),
        Variable(
            "DATARUN_SPLIT_WALL_SECONDS",
            3600,
            "The wall time limit of a split. Its CPU and memory limits are the maxima below.",
            least=1,
        ),
        Variable(
            "DATARUN_MEMORY_RESERVE_MB",
            512,
            "The part of the host's memory that folds may not use.",
        ),
    ),
    "Limits of a fold": (
        Variable(
            "DATARUN_WALL_SECONDS",
            600,
            "The wall time limit of a fold, unless its dataset sets another.",
            least=1,
        ),
        Variable(
            "DATARUN_CPU_SECONDS",
            600,
            "Likewise: CPU time, user and system, of all its processes.",
            least=1,
        ),
        Variable("DATARUN_MEMORY_MB", 2048, "Likewise: memory.", least=1),
        Variable("DATARUN_PROCESSES", 64, "Likewise: processes and threads at once.", least=1),
        Variable("DATARUN_SCRATCH_MB", 256, "Likewise: files that it writes.", least=1),
        Variable(
            "DATARUN_OUTPUT_KB",
            256,
            "Likewise: how much of its output is kept in the log.",
            least=1,
        ),
        Variable("DATARUN_MAX_WALL_SECONDS", 86_400, f"{_MOST}wall time.", least=1),
        Variable("DATARUN_MAX_CPU_SECONDS", 86_400, f"{_MOST}CPU time.", least=1),
        Variable(
            "DATARUN_MAX_MEMORY_MB",
            None,
            f"{_MOST}memory.",
            least=1,
            otherwise="the host's memory minus the reserve",
        ),
        Variable("DATARUN_MAX_PROCESSES", 512, f"{_MOST}processes and threads.", least=1),
        Variable("DATARUN_MAX_SCRATCH_MB", 4096, f"{_MOST}files that a fold writes.", least=1),
        Variable("DATARUN_MAX_OUTPUT_KB", 4096, f"{_MOST}output that is kept.", least=1),
        Variable(
            "DATARUN_MAX_PREDICTIONS_MB",
            256,
            "The size of a fold's predictions for one part of its dataset.",
            least=1,
        ),
    ),
    "Size of requests": (
        Variable("DATARUN_MAX_BODY_MB", 512, "The size of a request body.", least=1),
        Variable(
            "DATARUN_BODY_SECONDS",
            60,
            "How long a body may take to arrive, plus one second for each 64 kB of it.",
            least=1,
        ),
        Variable(
            "DATARUN_MAX_INFLATED_MB", 2048, "The size of a dataset's files, unpacked.", least=1
        ),
        Variable(
            "DATARUN_MAX_SUBMISSION_MB", 16, "The size of a submission's files, unpacked.", least=1
        ),
        Variable(
            "DATARUN_MAX_FILES", 100, "The number of files in a dataset or submission.", least=1
        ),
        Variable("DATARUN_MAX_INDICES", 50_000_000, "The number of indices in one array.", least=1),
        Variable(
            "DATARUN_MAX_LISTED_IDS",
            10_000,
            "The number of ids in one request for predictions.",
            least=1,
        ),
        Variable(
            "DATARUN_MAX_PART_MB",
            16_384,
            "The size of each stored part of a dataset, once it is split.",
            least=1,
        ),
    ),
    "Logs and metrics": (
        Variable(
            "DATARUN_LOG_FORMAT",
            None,
            "The format of log lines: `json` or `text`.",
            otherwise="`json` with PostgreSQL, else `text`",
        ),
        Variable(
            "DATARUN_METRICS_TOKEN",
            "",
            "Clients that send this token as `Authorization: Bearer` may read `/metrics`.",
            otherwise="none",
        ),
        Variable(
            "DATARUN_METRICS_NETWORKS",
            "127.0.0.0/8,::1/128",
            "The networks from which `/metrics` may be read without the token. An empty value "
            "allows none.",
        ),
    ),
}

VARIABLES = {variable.name: variable for group in SUBJECTS.values() for variable in group}

_HEAD = """\
# Settings

<!-- Written by `make settings` from datarun/variables.py; change it there. -->

All settings are environment variables, and every one has a default. An MB is 1024 * 1024 bytes and
a kB 1024 bytes. Lists are separated by commas. Some settings must be the same on all machines:
[which machine gets which settings](deployment.md#which-machine-gets-which-settings) says which.
"""


def write_page() -> str:
    """Return docs/settings.md."""
    return _HEAD + "".join(_write_table(*item) for item in SUBJECTS.items())


def _write_table(subject: str, variables: tuple[Variable, ...]) -> str:
    rows = [
        f"| `{variable.name}` | {variable.describe_default()} | {variable.meaning} |\n"
        for variable in variables
    ]
    return f"\n## {subject}\n\n| variable | default | meaning |\n|---|---|---|\n{''.join(rows)}"


if __name__ == "__main__":
    print(write_page(), end="")
