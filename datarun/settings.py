"""Settings of datarun; every one is read from the environment and has a safe default."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import psutil

from datarun.environment import (
    env,
    list_secrets,
    read_cache,
    read_database,
    read_flag,
    read_home,
    read_list,
    read_log_form,
    read_networks,
    read_promises,
    read_quota,
    read_secret_key,
    read_static_root,
    read_storage,
    read_text,
    read_web_threads,
    read_web_waiters,
    read_whole_number,
)
from datarun.logs import make_logging
from datarun.openapi import SPECTACULAR_SETTINGS as SPECTACULAR_SETTINGS
from runapp.runner.selftest.promises import DEFAULT_REQUIRED

BASE_DIR = Path(__file__).resolve().parent.parent
DATARUN_HOME = read_home(default=BASE_DIR / "var")

SECRET_KEY = read_secret_key(home=DATARUN_HOME)
DEBUG = read_flag("DATARUN_DEBUG")
ALLOWED_HOSTS = read_list("DATARUN_ALLOWED_HOSTS")
CSRF_TRUSTED_ORIGINS = read_list("DATARUN_TRUSTED_ORIGINS")

# Behind a proxy of our own that ends TLS and says so: all else is sent to https, for a year.
# What other names of the domain do is not ours to say, nor that browsers know of it beforehand.
TLS = read_flag("DATARUN_TLS")
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if TLS else None
CSRF_FAILURE_VIEW = "runapp.views.plain.answer_stale_form"
SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = TLS
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if TLS else 0
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]

SESSION_COOKIE_AGE = 12 * 3600
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"

# How many proxies of our own stand before the web server and add to X-Forwarded-For.
PROXIES = read_whole_number("DATARUN_PROXIES")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "knox",
    "axes",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_htmx",
    "runapp",
]

MIDDLEWARE = [
    "runapp.http.middleware.trace_request",
    "runapp.http.middleware.answer_probes",
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "runapp.http.middleware.tell_audit",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "axes.middleware.AxesMiddleware",
    "runapp.http.middleware.MeasureRequests",
]

# Scripts of other origins, which bring a token or a password of their own, and never a cookie.
CORS_ALLOWED_ORIGINS = read_list("DATARUN_CORS_ORIGINS")
CORS_URLS_REGEX = r"^/runapp/"
CORS_ALLOW_CREDENTIALS = False
CORS_ALLOW_HEADERS = ["authorization", "content-type", "if-none-match", "prefer"]
CORS_EXPOSE_HEADERS = [
    "Datarun-Cursor",
    "ETag",
    "Link",
    "Location",
    "Preference-Applied",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "X-Request-ID",
]
if CORS_ALLOWED_ORIGINS:
    INSTALLED_APPS.append("corsheaders")
    MIDDLEWARE.insert(1, "corsheaders.middleware.CorsMiddleware")

ROOT_URLCONF = "datarun.urls"
WSGI_APPLICATION = "datarun.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
            "libraries": {"ops": "runapp.ops.templatetags.ops"},
        },
    },
]

WEB_THREADS = read_web_threads()
WEB_WAITERS = read_web_waiters()
DATABASES = {"default": read_database(home=DATARUN_HOME, web_threads=WEB_THREADS)}
# Only the web server has threads that could share connections, and only it never forks: see
# datarun/pool.py.
WEB_POOL = DATABASES["default"].setdefault("OPTIONS", {}).pop("pool", None)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 10},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]

AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
# Wrong passwords of one name from one address, after which neither is tried for a while
# (accounts/passwords.py).
AXES_HANDLER = "runapp.accounts.passwords.SignInHandler"
AXES_FAILURE_LIMIT = read_whole_number("DATARUN_SIGN_IN_FAILURES")
AXES_COOLOFF_TIME = timedelta(seconds=read_whole_number("DATARUN_LOCKOUT_SECONDS"))
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_RESET_ON_SUCCESS = True
AXES_DISABLE_ACCESS_LOG = True
AXES_VERBOSE = False
AXES_CLIENT_IP_CALLABLE = "runapp.accounts.passwords.read_known_address"
AXES_USERNAME_CALLABLE = "runapp.accounts.passwords.read_name"
AXES_CLIENT_STR_CALLABLE = "runapp.accounts.passwords.describe_client"
AXES_LOCKOUT_CALLABLE = "runapp.views.plain.answer_locked"

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_I18N = False
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = read_static_root(home=DATARUN_HOME)  # WhiteNoise warns of a missing one
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = DEBUG

# A verified Basic credential is remembered this long, per process.
BASIC_CREDENTIAL_SECONDS = 60

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "runapp.http.authentication.RememberedBasicAuthentication",
        "runapp.http.authentication.PlainTokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_THROTTLE_CLASSES": ["runapp.http.throttles.AccountThrottle"],
    "DEFAULT_PARSER_CLASSES": ["runapp.http.parsers.BoundedJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["runapp.http.renderers.FastJSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "runapp.schema.auto.DescribedOperation",
    "EXCEPTION_HANDLER": "runapp.http.exception_handler.handle_exception",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
KNOX_TOKEN_MODEL = "runapp.AccessToken"  # noqa: S105 - the name of a model
# Its own table is not ours: nothing of its history is wanted.
MIGRATION_MODULES = {"knox": None}
REST_KNOX = {"TOKEN_TTL": None, "AUTH_HEADER_PREFIX": "Token"}

# The group whose members may post datasets; without one every account may.
ORGANISERS_GROUP = read_text("DATARUN_ORGANISERS")
# The group whose members see the state of everything, and may cancel, pause and re-prioritise.
OPERATORS_GROUP = read_text("DATARUN_OPERATORS")

# What an account may have and do, unless its own quota says otherwise; None is no limit.
QUOTAS = {
    "stored_mb": read_quota("DATARUN_QUOTA_STORED_MB"),
    "waiting_folds": read_quota("DATARUN_QUOTA_WAITING_FOLDS"),
    "folds_per_day": read_quota("DATARUN_QUOTA_FOLDS_PER_DAY"),
    "submissions_per_day": read_quota("DATARUN_QUOTA_SUBMISSIONS_PER_DAY"),
}

# Requests that an account may make in a minute; 0 is any number. Where the database is a file, the
# accounts are few and known.
_IS_EMBEDDED = DATABASES["default"]["ENGINE"].endswith("sqlite3")
REQUESTS_PER_MINUTE = read_whole_number("DATARUN_REQUESTS_PER_MINUTE", 0 if _IS_EMBEDDED else 6000)
CACHES = {"default": read_cache()}

# What a request may carry. Files and arrays are compressed on the wire, so the body and what it
# inflates to are bounded apart.
MAX_BODY_BYTES = read_whole_number("DATARUN_MAX_BODY_MB") * 2**20
MAX_INFLATED_BYTES = read_whole_number("DATARUN_MAX_INFLATED_MB") * 2**20
MAX_SUBMISSION_BYTES = read_whole_number("DATARUN_MAX_SUBMISSION_MB") * 2**20
MAX_FILES = read_whole_number("DATARUN_MAX_FILES")
MAX_INDICES = read_whole_number("DATARUN_MAX_INDICES")
MAX_PREDICTIONS_BYTES = read_whole_number("DATARUN_MAX_PREDICTIONS_MB") * 2**20
MAX_LISTED_IDS = read_whole_number("DATARUN_MAX_LISTED_IDS")

# Limits of a fold: what counts when a dataset says nothing, and the most that it may ask for.
# The host's memory is not all for folds: the system, the database and the keepers need some.
MEMORY_RESERVE_MB = read_whole_number("DATARUN_MEMORY_RESERVE_MB")
_HOST_MEMORY_MB = max(psutil.virtual_memory().total // 2**20 - MEMORY_RESERVE_MB, 256)
MAX_LIMITS = {
    "wall_seconds": read_whole_number("DATARUN_MAX_WALL_SECONDS"),
    "cpu_seconds": read_whole_number("DATARUN_MAX_CPU_SECONDS"),
    "memory_mb": read_whole_number("DATARUN_MAX_MEMORY_MB", _HOST_MEMORY_MB),
    "processes": read_whole_number("DATARUN_MAX_PROCESSES"),
    "scratch_mb": read_whole_number("DATARUN_MAX_SCRATCH_MB"),
    "output_kb": read_whole_number("DATARUN_MAX_OUTPUT_KB"),
}
_LIMITS_UNLESS_SAID = {
    "wall_seconds": read_whole_number("DATARUN_WALL_SECONDS"),
    "cpu_seconds": read_whole_number("DATARUN_CPU_SECONDS"),
    "memory_mb": read_whole_number("DATARUN_MEMORY_MB"),
    "processes": read_whole_number("DATARUN_PROCESSES"),
    "scratch_mb": read_whole_number("DATARUN_SCRATCH_MB"),
    "output_kb": read_whole_number("DATARUN_OUTPUT_KB"),
}
# A small host's maximum also bounds what counts without a word; datasets answer it as in force.
DEFAULT_LIMITS = {name: min(value, MAX_LIMITS[name]) for name, value in _LIMITS_UNLESS_SAID.items()}
MAX_PART_BYTES = read_whole_number("DATARUN_MAX_PART_MB") * 2**20
SPLIT_WALL_SECONDS = read_whole_number("DATARUN_SPLIT_WALL_SECONDS")

# Storage: blobs, and scratch folders of running folds. Blobs are read below STORAGE_ROOT, which is
# the storage itself or, where there is a remote one, this machine's cache of it.
STORAGE_ROOT, STORAGE_REMOTE = read_storage(home=DATARUN_HOME)
CACHE_BYTES = read_whole_number("DATARUN_CACHE_MB") * 2**20
SCRATCH_ROOT = DATARUN_HOME / "scratch"
# With less on a disk that it writes to, this machine is not ready for work (/health/ready).
LEAST_FREE_BYTES = read_whole_number("DATARUN_LEAST_FREE_MB") * 2**20
INLINE_PREDICTIONS_BYTES = 64 * 1024

# Who may read /metrics: who has the token, and who asks from one of the networks.
METRICS_TOKEN = read_text("DATARUN_METRICS_TOKEN")
METRICS_NETWORKS = read_networks()
# Less fine than django-prometheus has it: there is one series for each bucket, view and method.
PROMETHEUS_LATENCY_BUCKETS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, float("inf"))

# Scheduling. A claim is held under a lease that its worker renews; an expired one goes back.
LEASE_SECONDS = read_whole_number("DATARUN_LEASE_SECONDS")
HEARTBEAT_SECONDS = read_whole_number("DATARUN_HEARTBEAT_SECONDS")
MAX_ATTEMPTS = read_whole_number("DATARUN_MAX_ATTEMPTS")
# The most folds of one account that run at once; 0 is no cap.
ACCOUNT_CAP = read_whole_number("DATARUN_ACCOUNT_CAP")
SHUTDOWN_GRACE_SECONDS = read_whole_number("DATARUN_SHUTDOWN_GRACE_SECONDS")

# What a worker must keep, as its self-test finds, before it takes any work.
REQUIRED_PROMISES = read_promises("DATARUN_REQUIRED_PROMISES", DEFAULT_REQUIRED)

# Serving from one machine (`manage.py serve`).
PORT = read_whole_number("DATARUN_PORT")
SLOTS = read_whole_number("DATARUN_SLOTS", os.cpu_count() or 1)

# A message is a hint that something waits: it carries no data, is acknowledged early and goes
# stale; the database decides what runs (docs/design.md).
BROKER_FOLDER = DATARUN_HOME / "broker"
CELERY_BROKER_URL = env.str("CELERY_BROKER_URL", default="") or "filesystem://"
CELERY_TASK_DEFAULT_QUEUE = "datarun"
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = False
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
# A new slot is killed when it has not said so long that it is up; a busy machine is slow.
CELERY_WORKER_PROC_ALIVE_TIMEOUT = 60.0
CELERY_WORKER_CONCURRENCY = max(SLOTS, 1)
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_WORKER_SEND_TASK_EVENTS = False
CELERY_WORKER_ENABLE_PREFETCH_COUNT_REDUCTION = False
# An exclusive queue stays locked by a connection whose link was cut, until RabbitMQ notices: the
# worker that comes back would end on it, and its folds with it.
CELERY_CONTROL_QUEUE_EXCLUSIVE = False
CELERY_CONTROL_QUEUE_DURABLE = True
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_TIMEOUT = 1
CELERY_BROKER_HEARTBEAT = 10  # seconds: a cut link to RabbitMQ is noticed within two of them
# As many as publish at once, so that no request waits for another one's silent broker.
CELERY_BROKER_POOL_LIMIT = WEB_THREADS
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
# Optional: every worker's main process does the same. What is late by a period is not worth doing.
CELERY_BEAT_SCHEDULE_FILENAME = str(DATARUN_HOME / "beat-schedule")
CELERY_BEAT_SCHEDULE = {
    "reap": {"task": "runapp.tasks.reap", "schedule": 5.0, "options": {"expires": 5.0}},
}
if CELERY_BROKER_URL.startswith("filesystem:"):
    CELERY_BROKER_TRANSPORT = "datarun.filesystem_broker:Transport"
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "data_folder_in": str(BROKER_FOLDER / "messages"),
        "data_folder_out": str(BROKER_FOLDER / "messages"),
        "control_folder": str(BROKER_FOLDER / "control"),
        "store_processed": False,
        "polling_interval": 0.05,
    }
else:
    # A request never waits for a dead broker to come back: a hint is not worth a second try.
    CELERY_BROKER_TRANSPORT_OPTIONS = {"max_retries": 0}
    if CELERY_BROKER_URL.startswith("redis"):
        # A consumer reads its blocking BRPOP only once something is there, so the timeout is for
        # what is asked and answered. The interval lets it notice a cut link within 11 s.
        CELERY_BROKER_TRANSPORT_OPTIONS |= {
            "socket_connect_timeout": 1,
            "socket_timeout": 1,
            "socket_keepalive": True,
            "health_check_interval": 5,
        }
    else:
        CELERY_BROKER_TRANSPORT_OPTIONS |= {"write_timeout": 1}

LOGGING = make_logging(form=read_log_form(), secrets=[SECRET_KEY, *list_secrets()]) | {
    "filters": {"outages": {"()": "runapp.common.outages.OutageFilter"}},
    "loggers": {
        "django.request": {"level": "ERROR", "filters": ["outages"]},
        # Each failed probe would show a stack trace; what has changed is told once, in a line.
        "health_check": {"level": "CRITICAL"},
        # A line for every hint says nothing: a fold's own line tells its outcome.
        "celery.worker.strategy": {"level": "WARNING"},
        "celery.app.trace": {"level": "WARNING"},
        "axes": {"level": "WARNING"},
    },
}
