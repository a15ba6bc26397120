"""Typed readers of the environment; every setting has a default that is safe."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

from datarun.logs import Form
from datarun.variables import VARIABLES
from runapp.runner.selftest.promises import Promise
from runapp.storage.location import BadLocation, S3Location, parse_location

env = environ.Env()


def read_whole_number(name: str, default: int | None = None) -> int:
    """Read a whole number of at least what the variable allows.

    Parameters
    ----------
    name : str
        One of `datarun.variables`.
    default : int, optional
        The default of a variable whose table has none.

    Raises
    ------
    ImproperlyConfigured
        When the variable holds anything else.
    """
    variable = VARIABLES[name]
    text = os.environ.get(name, "").strip()
    if not text:
        value = variable.default if default is None else default
        assert isinstance(value, int)
        return value
    if not text.isascii() or not text.isdigit() or int(text) < variable.least:
        raise ImproperlyConfigured(f"{name} must be a whole number of at least {variable.least}.")
    return int(text)


def read_text(name: str) -> str:
    """Read a text; a variable that is set but empty is an empty text."""
    default = VARIABLES[name].default
    assert isinstance(default, str)
    return os.environ.get(name, default).strip()


def read_list(name: str) -> list[str]:
    """Read words with commas between them."""
    return [word.strip() for word in read_text(name).split(",") if word.strip()]


def read_flag(name: str) -> bool:
    """Read a flag: on, true, yes, y, ok or a number other than 0 turns it on."""
    return bool(env.parse_value(read_text(name), bool))


def read_quota(name: str) -> int | None:
    """Read a whole number, or None where the variable is empty: no quota.

    Raises
    ------
    ImproperlyConfigured
        When the variable holds anything else.
    """
    return read_whole_number(name) if os.environ.get(name, "").strip() else None


def read_web_threads() -> int:
    """Return how many requests a process of the web server serves at once."""
    return read_whole_number("DATARUN_WEB_THREADS")


def read_web_waiters() -> int:
    """Return how many requests it may hold besides until there is something new."""
    return read_whole_number("DATARUN_WEB_WAITERS")


def read_body_seconds() -> int:
    """Return how long a request's body may take, beside what its size is given."""
    return read_whole_number("DATARUN_BODY_SECONDS")


def read_log_form() -> Form:
    """Return how log lines look: for machines where a database server speaks of production.

    Raises
    ------
    ImproperlyConfigured
        When the variable names neither form.
    """
    text = os.environ.get("DATARUN_LOG_FORMAT", "").strip()
    if text and text not in set(Form):
        raise ImproperlyConfigured(f"DATARUN_LOG_FORMAT must be one of: {', '.join(Form)}.")
    has_server = (
        os.environ.get("DATABASE_URL", "").strip().startswith(("postgres", "psql", "pgsql"))
    )
    return Form(text) if text else (Form.JSON if has_server else Form.TEXT)


def list_secrets() -> list[str]:
    """Return what the environment holds that no log may show."""
    names = ("DATARUN_SECRET_KEY", "AWS_SECRET_ACCESS_KEY", "DATARUN_METRICS_TOKEN")
    given = [os.environ.get(name, "").strip() for name in names]
    for name in ("DATABASE_URL", "CELERY_BROKER_URL", "DATARUN_CACHE_URL"):
        for url in os.environ.get(name, "").split(";"):
            password = url.partition("://")[2].rpartition("@")[0].partition(":")[2]
            given += [password, unquote(password)]
    return sorted(set(given) - {""})


def read_networks() -> list[IPv4Network | IPv6Network]:
    """Return the networks from which metrics may be read; an empty variable is none at all.

    Raises
    ------
    ImproperlyConfigured
        When one of them is not a network.
    """
    try:
        return [ip_network(word) for word in read_list("DATARUN_METRICS_NETWORKS")]
    except ValueError as error:
        raise ImproperlyConfigured(
            "DATARUN_METRICS_NETWORKS must be networks such as 10.1.0.0/16, separated by commas."
        ) from error


def read_promises(name: str, default: frozenset[Promise]) -> frozenset[Promise]:
    """Read names of promises with commas between them; an empty variable is none at all.

    Raises
    ------
    ImproperlyConfigured
        When a name is not that of a promise.
    """
    text = os.environ.get(name)
    if text is None:
        return default
    names = {word.strip() for word in text.split(",")} - {""}
    unknown = sorted(names - set(Promise))
    if unknown:
        raise ImproperlyConfigured(
            f"{name} has unknown promises: {', '.join(unknown)}. Allowed: {', '.join(Promise)}."
        )
    return frozenset(map(Promise, names))


def read_home(*, default: Path) -> Path:
    """Return DATARUN_HOME as an absolute path; the folder is made, for its owner alone.

    Raises
    ------
    ImproperlyConfigured
        When it cannot be made.
    """
    home = Path(os.environ.get("DATARUN_HOME") or default).expanduser().absolute()
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ImproperlyConfigured(f"DATARUN_HOME cannot be created: {error}.") from error
    return home


def read_secret_key(*, home: Path) -> str:
    """Return the signing key of this installation, made on first use.

    Two processes that start at once agree: the key is written to a file of its own and linked
    into place, which succeeds for one of them only.

    Raises
    ------
    ImproperlyConfigured
        When the home cannot be read or written.
    """
    given = os.environ.get("DATARUN_SECRET_KEY", "")
    if given:
        return given
    with _using_home():
        return _share_secret_key(home)


def _share_secret_key(home: Path) -> str:
    path = home / "secret_key"
    if not path.exists():
        draft = home / f"secret_key.{os.getpid()}.{secrets.token_hex(4)}"
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(48))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            pass  # another process was first; its key counts
        finally:
            draft.unlink()
    return path.read_text().strip()


def read_static_root(*, home: Path) -> Path:
    """Return the folder of collected files, which is made.

    Raises
    ------
    ImproperlyConfigured
        When the home cannot be read or written.
    """
    folder = home / "static"
    with _using_home():
        folder.mkdir(exist_ok=True)
    return folder


@contextmanager
def _using_home() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ImproperlyConfigured(f"DATARUN_HOME cannot be used: {error}.") from error


def read_database(*, home: Path, web_threads: int) -> dict[str, Any]:
    """Return Django's settings of the database in DATABASE_URL, or of SQLite in the home.

    Raises
    ------
    ImproperlyConfigured
        When the URL is of neither, or the size of the pool is no number.
    """
    url = os.environ.get("DATABASE_URL", "").strip() or f"sqlite:///{home}/datarun.sqlite3"
    database = _parse_database(url)
    if database["ENGINE"].endswith("sqlite3"):
        database |= {
            "OPTIONS": _SQLITE_OPTIONS,
            "CONN_MAX_AGE": None,
            "TEST": {"NAME": str(home / "test.sqlite3")},
        }
    else:
        _complete_postgresql(database, web_threads)
    return database


def _parse_database(url: str) -> dict[str, Any]:
    form = "DATABASE_URL must look like postgres://user:password@host:5432/name or sqlite:///path."
    # The URL may hold a password: no message shows it.
    try:
        is_known = urlsplit(url).scheme in _DATABASE_SCHEMES
        database: dict[str, Any] = env.db_url_config(url) if is_known else {}
    except ValueError as error:
        raise ImproperlyConfigured(form) from error
    if not database:
        raise ImproperlyConfigured(form)
    return database


_DATABASE_SCHEMES = ("postgres", "postgresql", "psql", "pgsql", "sqlite")


# A transaction that starts by reading and then writes cannot wait for its lock in SQLite: it fails
# at once, whatever the timeout. IMMEDIATE takes the write lock at BEGIN.
_SQLITE_OPTIONS = {
    "transaction_mode": "IMMEDIATE",
    "timeout": 10,
    "init_command": (
        "PRAGMA journal_mode=WAL;PRAGMA synchronous=FULL;PRAGMA busy_timeout=10000;"
        "PRAGMA journal_size_limit=67108864;PRAGMA mmap_size=134217728;"
        "PRAGMA temp_store=MEMORY;"
    ),
}

# What a cut link, a server that is gone or a transaction that is stuck may cost. All are shorter
# than a lease, so that a worker whose database comes back in time keeps its folds.
_POSTGRESQL_OPTIONS = {
    "connect_timeout": 3,  # seconds, for each host
    "tcp_user_timeout": 8000,  # milliseconds
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
}
# The same at the server's end, where a client that vanished may hold locks.
_POSTGRESQL_SESSION: dict[str, int | str] = {
    # Compiling a plan takes longer than any of ours runs; a plan that must not read a whole table
    # (scheduling/queue.py) looks costly enough for it.
    "jit": "off",
    "lock_timeout": 5000,
    "idle_in_transaction_session_timeout": 15000,
    "tcp_user_timeout": 8000,
    "tcp_keepalives_idle": 5,
    "tcp_keepalives_interval": 2,
    "tcp_keepalives_count": 3,
}


def _complete_postgresql(database: dict[str, Any], web_threads: int) -> None:
    """Add what the URL's query leaves open; `pgbouncer=1` keeps to what its transactions allow."""
    given = database.setdefault("OPTIONS", {})
    has_pooler = bool(given.pop("pgbouncer", 0))
    size = given.pop("pool", 0 if has_pooler else web_threads)
    if not isinstance(size, int) or size < 0:
        raise ImproperlyConfigured("pool= in DATABASE_URL must be a whole number.")
    options = {**_POSTGRESQL_OPTIONS, **given}
    if has_pooler:
        database.setdefault("DISABLE_SERVER_SIDE_CURSORS", True)
    else:
        session = " ".join(f"-c {name}={value}" for name, value in _POSTGRESQL_SESSION.items())
        options.setdefault("options", session)
    if size:
        options["pool"] = _make_pool(size)
    database["OPTIONS"] = options
    database.setdefault("CONN_HEALTH_CHECKS", True)


def _make_pool(size: int) -> dict[str, Any]:
    """Return the options of a pool that keeps nothing it does not need.

    An attempt to connect is given up when the request that asked for it is: the next request tries
    anew, and so finds the server as soon as it is back.
    """
    return {
        "min_size": 0,
        "max_size": size,
        "timeout": 3.0,
        "reconnect_timeout": 3.0,
        "max_idle": 60.0,
        "name": "web",
    }


def read_storage(*, home: Path) -> tuple[Path, S3Location | None]:
    """Return the folder in which blobs are read, and the object store it is a cache of, if any.

    DATARUN_STORAGE_URL names either (`file:///...`, `s3://...`); by default it is a folder in
    the home.

    Raises
    ------
    ImproperlyConfigured
        When the URL cannot be understood.
    """
    url = os.environ.get("DATARUN_STORAGE_URL", "").strip()
    if not url:
        return home / "storage", None
    try:
        location = parse_location(url)
    except BadLocation as error:
        raise ImproperlyConfigured(f"DATARUN_STORAGE_URL {error}") from error
    return (location, None) if isinstance(location, Path) else (home / "cache", location)


def read_cache() -> dict[str, Any]:
    """Return Django's settings of the cache: in DATARUN_CACHE_URL, or in each process's memory.

    Raises
    ------
    ImproperlyConfigured
        When the URL is not of Redis.
    """
    url = os.environ.get("DATARUN_CACHE_URL", "").strip()
    if not url:
        return {
            "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
            # An entry for each account that asks within a minute.
            "OPTIONS": {"MAX_ENTRIES": 10_000},
        }
    if urlsplit(url).scheme not in ("redis", "rediss"):
        raise ImproperlyConfigured("DATARUN_CACHE_URL must look like redis://host:6379/0.")
    return {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": url,
        "KEY_PREFIX": "datarun",
        # No request waits longer for what it can do without.
        "OPTIONS": {"socket_connect_timeout": 0.5, "socket_timeout": 0.5},
    }
