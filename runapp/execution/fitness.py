"""Whether a worker may take work: what it keeps of what the settings require."""

from __future__ import annotations

import logging
import platform
import tomllib
from collections.abc import Callable
from functools import cache
from importlib.metadata import version

from django.conf import settings

from runapp.runner.host import Host
from runapp.runner.selftest.promises import DEFAULT_REQUIRED, Promise, SelfTest, name_promises
from runapp.runner.selftest.selftest import run_selftest
from runapp.runner.supervisor import Supervisor

logger = logging.getLogger(__name__)

_LIBRARIES = ("numpy", "pandas", "scikit-learn")


def make_supervisor(*, host: Host | None = None) -> Supervisor:
    """Return a supervisor as every slot, and the self-test, has it.

    Parameters
    ----------
    host : Host or None, optional
        What the machine offers; None has the supervisor find out.
    """
    settings.STORAGE_ROOT.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Supervisor(
        scratch_root=settings.SCRATCH_ROOT,
        inputs_root=settings.STORAGE_ROOT,
        hidden=(settings.DATARUN_HOME,),
        host=host,
    )


def examine_worker(
    *, host: Host | None = None, should_stop: Callable[[], bool] = lambda: False
) -> SelfTest:
    """Run the self-test on this machine, with a supervisor of its own.

    Parameters
    ----------
    host : Host or None, optional
        What the machine offers; None has the supervisor find out.
    should_stop : callable, optional
        Asked about once a second; true ends the self-test early, and nothing is found kept.

    Returns
    -------
    SelfTest
        One in which nothing is kept when it could not be made.
    """
    supervisor = make_supervisor(host=host)
    try:
        return run_selftest(
            supervisor=supervisor,
            folder=settings.STORAGE_ROOT,
            private=(settings.DATARUN_HOME,),
            versions=read_versions(),
            should_stop=should_stop,
        )
    except Exception as error:
        # Whatever it was: a worker that cannot test itself stays, takes nothing and says so.
        # What the system refuses says enough in a line.
        is_known = isinstance(error, OSError)
        logger.error("the self-test could not be made: %s", error, exc_info=not is_known)
        return SelfTest.fail(f"the self-test could not be made: {error}")
    finally:
        supervisor.close()


@cache
def read_versions() -> dict[str, str]:
    """Return the versions of what decides on predictions and on promises."""
    project = tomllib.loads((settings.BASE_DIR / "pyproject.toml").read_text())["project"]
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in _LIBRARIES},
        "datarun": project["version"],
        "kernel": platform.release(),
    }


def is_fit(kept: frozenset[Promise] | None) -> bool:
    """Tell whether a worker may take work; None is one that does not know itself yet."""
    return kept is not None and kept >= settings.REQUIRED_PROMISES


def report_fitness(self_test: SelfTest) -> None:
    """Log what the self-test found; one error when the worker takes no work for it."""
    broken = self_test.list_broken(settings.REQUIRED_PROMISES)
    if not broken:
        kept = name_promises(self_test.kept) or "nothing"
        logger.info("the self-test found kept: %s (%s)", kept, self_test.level)
        return
    reasons = "".join(f"\n  {finding.promise}: {finding.detail}" for finding in broken)
    logger.error(
        "this worker takes no work, as it does not keep: %s. Change the host, or what "
        "DATARUN_REQUIRED_PROMISES requires.%s%s",
        name_promises(finding.promise for finding in broken),
        reasons,
        "".join(f"\n  not better, because: {reason}" for reason in self_test.reasons),
    )


def warn_if_lowered() -> None:
    """Log that less is required than by default."""
    missing = DEFAULT_REQUIRED - settings.REQUIRED_PROMISES
    if missing:
        logger.warning(
            "DATARUN_REQUIRED_PROMISES does not require: %s; run only code that you trust",
            name_promises(missing),
        )
