"""The self-test with real runs: what the best seal keeps, and what a weaker one does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from runapp.runner.host import Host, survey_host
from runapp.runner.keeper import handle
from runapp.runner.sandbox.levels import Level
from runapp.runner.selftest.promises import DEFAULT_REQUIRED, Promise, SelfTest
from runapp.runner.selftest.selftest import run_selftest
from runapp.runner.supervisor import Supervisor
from tests.unit.runner_folds import LIGHT_BOOTSTRAP

SEALS: dict[str, Callable[[], Host]] = {
    "best": survey_host,
    "without namespaces": lambda: survey_host(best=Level.LANDLOCK),
}


@pytest.fixture(scope="module", params=SEALS)
def found(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SelfTest]:
    host = SEALS[request.param]()
    if host.seal.level is Level.PROCESS:
        pytest.skip("this host seals nothing, and the probes would run loose on it")
    home = tmp_path_factory.mktemp("home")
    (home / "storage").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handle, "_BOOTSTRAP", LIGHT_BOOTSTRAP % "")
        supervisor = Supervisor(
            scratch_root=home / "scratch",
            inputs_root=home / "storage",
            hidden=(home,),
            host=host,
        )
        yield run_selftest(supervisor=supervisor, folder=home / "storage", private=(home,))
        supervisor.close()
    assert [path for path in (home / "storage").rglob("*") if path.is_file()] == []


def test_sealed_run_keeps_what_is_required(found: SelfTest) -> None:
    assert found.list_broken(DEFAULT_REQUIRED) == []


def test_sealed_run_keeps_what_no_namespace_is_needed_for(found: SelfTest) -> None:
    promises = {Promise.NEIGHBOURS, Promise.MEMORY, Promise.CPU, Promise.KERNEL}

    assert found.list_broken(promises) == []


def test_scratch_is_limited_where_a_run_has_its_own_file_system(found: SelfTest) -> None:
    has_namespaces = Level(found.level).has_namespaces

    (scratch,) = [one for one in found.findings if one.promise is Promise.SCRATCH]

    assert scratch.is_kept is has_namespaces, scratch
    assert has_namespaces or "16 MB were written" in scratch.detail


def test_no_attempt_was_left_out(found: SelfTest) -> None:
    # Where processes are only sampled, the run is killed before it can tell of the others.
    findings = [one for one in found.findings if one.promise is not Promise.PROCESSES]

    assert [one for one in findings if "tried" in one.detail] == []
