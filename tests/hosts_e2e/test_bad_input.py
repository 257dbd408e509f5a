# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wrong input on a real host: everything that is wrong is said at once, and the host stays as it was."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.tests.hosts.hosts import Run
from ansible_collections.pyfleet.runtime.tests.testbed import Bed, BedHost, Played

from .conftest import Application, Maker

#: All that a deployment can change: files with their times, users, units, redirects.
LISTING = (
    "find /srv/pyfleet /etc/pyfleet /etc/systemd/system /var/lib/pyfleet -printf '%p %m %U %s %T@ %l\\n' 2>/dev/null | sort; "
    "cat /etc/passwd /etc/group; ls -d /srv/* /var/cache/app-* /run/pyfleet/*.build 2>/dev/null; "
    "systemctl list-units --all --plain --no-legend 'app-*' 'pyfleet-*' | awk '{print $1, $3, $4}'; "
    "nft list table inet pyfleet 2>/dev/null"
)


@contextlib.contextmanager
def unchanged(host: BedHost) -> Iterator[None]:
    """The host is, after the block, exactly as it was before."""
    before = host(f"{LISTING}; true")
    yield
    assert host(f"{LISTING}; true") == before


def refused(played: Played, *words: str) -> None:
    """The play ended before any change, and its message holds these words."""
    played.failed()
    assert played.changed == 0
    assert not played.of("managed_files")
    for word in [*words, "nothing was changed", "Rule: ", "Next step: "]:
        assert word in played.message()


def values(variable: str, value: str) -> list[str]:
    """The lines that name a variable and its value."""
    return [f"Variable:  {variable}\n", f"Value:     {value}\n"]


@pytest.fixture(scope="module")
def app(
    provisioned: Bed, locked_apps: Callable[[str], pathlib.Path], tmp_path_factory: pytest.TempPathFactory
) -> Application:
    """One that is never deployed."""
    source = tmp_path_factory.mktemp("refused") / "shop"
    shutil.copytree(locked_apps("tiny"), source)
    return Application(provisioned, "shop", source, "bookworm1")


def test_c3_unknown_python_version(app: Application) -> None:
    with unchanged(app.host):
        refused(
            app.deploy({"CC_PYTHON_VERSION": "threeish"}),
            "CC_PYTHON_VERSION is not a Python version.",
            *values("CC_PYTHON_VERSION", "threeish"),
            "Rule:      C3",
        )


def test_d6_malformed_variable_names(app: Application) -> None:
    names = ["1ST", "WITH-HYPHEN", "with space", ""]
    with unchanged(app.host):
        played = app.deploy(dict.fromkeys(names, "s3cr3t-value"))
    for name in names:
        refused(played, *values(name or "(empty)", "(secret)"), "Rule:      D6: names match [A-Za-z_][A-Za-z0-9_]*")
    assert "s3cr3t-value" not in played.output


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("../elsewhere", "APP_FOLDER leaves the source tree."),
        ("/etc", "APP_FOLDER is an absolute path."),
    ],
)
def test_a2_app_folder_outside_the_source(app: Application, folder: str, words: str) -> None:
    with unchanged(app.host):
        refused(app.deploy({"APP_FOLDER": folder}), words, *values("APP_FOLDER", folder), "Rule:      A2")


def test_d7_worker_delay_is_a_number(app: Application) -> None:
    env = {"CC_WORKER_COMMAND": "uv run worker.py", "CC_WORKER_RESTART_DELAY": "soon"}
    with unchanged(app.host):
        refused(
            app.deploy(env),
            "CC_WORKER_RESTART_DELAY is not a number of seconds.",
            *values("CC_WORKER_RESTART_DELAY", "soon"),
            "Rule:      D7",
        )


def test_e1_health_path_begins_with_a_slash(app: Application) -> None:
    with unchanged(app.host):
        refused(
            app.deploy({"CC_HEALTH_CHECK_PATH": "health"}),
            "it does not begin with /",
            *values("CC_HEALTH_CHECK_PATH", "health"),
            "Rule:      E1",
            "for example /health.",
        )


def test_source_is_git_or_path_and_not_both(app: Application) -> None:
    both = {"path": str(app.source), "git": "https://git.invalid/shop.git"}
    with unchanged(app.host):
        refused(
            app.deploy(variables={"app_source": both}),
            *values("app_source", "path, git"),
            "one of path, git or archive",
        )


@pytest.mark.parametrize("name", ["a/b", "shop@1", "x" * 40])
def test_app_name_that_cannot_name_a_unit(app: Application, name: str) -> None:
    with unchanged(app.host):
        refused(app.deploy(variables={"app_name": name}), *values("app_name", name), "lower-case")


@pytest.mark.parametrize(("port", "variable"), [(8080, "app_public_port"), (18080, "app_release_ports")])
def test_d2_port_in_use(app: Application, port: int, variable: str) -> None:
    host = app.host
    host(f"systemd-run --quiet --collect --unit=squatter python3 -m http.server {port}")
    try:
        host.wait_until(f"ss -Hltn 'sport = :{port}' | grep -q .")
        with unchanged(host):
            refused(
                app.deploy(),
                f"Port {port} is in use by python3",
                *values(variable, str(port)),
                "Rule:      D2",
                "Stop python3",
            )
    finally:
        host("systemctl stop squatter.service")


def test_missing_sudo(app: Application) -> None:
    with unchanged(app.host):
        played = app.deploy(variables={"ansible_user": "nosudo"})
    refused(played, *values("ansible_become", "nosudo"), "sudo", "root")


def test_user_with_sudo_deploys(make_app: Maker) -> None:
    app = make_app()
    app.deploy(variables={"ansible_user": "deploy"}).succeeded()
    assert app.version() == "1.0.0"


def test_everything_that_is_wrong_is_listed_at_once(app: Application) -> None:
    env = {
        "CC_PYTHON_VERSION": "threeish",
        "WITH-HYPHEN": "x",
        "APP_FOLDER": "../elsewhere",
        "CC_WORKER_COMMAND": "uv run worker.py",
        "CC_WORKER_RESTART_DELAY": "soon",
        "CC_HEALTH_CHECK_PATH": "health",
    }
    variables = {"app_name": "Shop", "app_public_port": 80, "app_source": {"path": str(app.source), "git": "x"}}
    with unchanged(app.host):
        played = app.deploy(env, variables=variables)
    refused(played)
    for variable in [*env, *variables]:
        if variable != "CC_WORKER_COMMAND":
            assert played.message().count(f"Variable:  {variable}\n") == 1, variable
    assert "8 problems, nothing was changed:" in played.message()


def test_a1_g2_without_a_valid_command_it_is_legacy_mode_whose_settings_hold(app: Application) -> None:
    env = {
        "CC_PYTHON_UV_RUN_COMMAND": "uv run 'unbalanced",
        "CC_PYTHON_MODULE": "server:app",
        "CC_PYTHON_BACKEND": "hypercorn",
    }
    with unchanged(app.host):
        refused(
            app.deploy(env),
            *values("CC_PYTHON_BACKEND", "hypercorn"),
            "uwsgi, gunicorn, daphne, uvicorn",
            "Rule:      G",
        )


def test_a5_nothing_to_run(app: Application) -> None:
    with unchanged(app.host):
        names = ["CC_PYTHON_MODULE", "CC_RUN_COMMAND", "CC_PYTHON_CELERY_MODULE", "CC_PYTHON_UV_RUN_COMMAND", "uv.lock"]
        refused(app.deploy({"CC_PYTHON_UV_RUN_COMMAND": ""}), "There is nothing to run", "Rule:      A5", *names)


def test_f8_f9_f11_settings_of_the_chain_before_a_host_changes(app: Application) -> None:
    env = {
        "CC_REQUEST_FLOW": "otoroshi-challenge,oauth2-proxy,varnish",
        "OAUTH2_PROXY_COOKIE_SECRET": "s3cr3t-value",
        "CC_VARNISH_FILE": "/cache.vcl",
    }
    with unchanged(app.host):
        played = app.deploy(env)
    refused(
        played,
        "OTOROSHI_CHALLENGE_SECRET is empty or not set",
        "the source has no file cache.vcl",
        "OAUTH2_PROXY_COOKIE_SECRET has 12 bytes",
        "app_oauth2_proxy",
        "Rule:      F8",
        "Rule:      F9",
        "Rule:      F11",
    )
    assert "s3cr3t-value" not in played.output


def test_f1_unknown_service_of_the_request_flow(app: Application) -> None:
    with unchanged(app.host):
        refused(
            app.deploy({"CC_REQUEST_FLOW": "squid"}),
            *values("CC_REQUEST_FLOW", "squid"),
            "otoroshi-challenge, varnish, redirectionio, oauth2-proxy, custom, block",
        )


@pytest.fixture(scope="module")
def virgin(bed: Bed) -> Iterator[Bed]:
    """A host on which nothing of this collection ever ran, in a run of its own: other tests never meet it."""
    run = f"{bed.name}-virgin"
    single = Bed(run)
    single.up(virgin1="bookworm")
    yield single
    Run(run).down()


@pytest.fixture
def unprovisioned(virgin: Bed, locked_apps: Callable[[str], pathlib.Path]) -> Application:
    """An application for that host."""
    return Application(virgin, "shop", locked_apps("tiny"), "virgin1")


def test_host_that_was_never_provisioned(unprovisioned: Application) -> None:
    with unchanged(unprovisioned.host):
        played = unprovisioned.deploy({"CC_HEALTH_CHECK_PATH": "health"})
    refused(
        played,
        "2 problems",
        "The host is not prepared for applications yet: the redirect table (pyfleet-redirect.service) and uv (app_uv_executable).",
        "Run the playbook provision.yml",
        *values("CC_HEALTH_CHECK_PATH", "health"),
    )


def test_dry_run_on_a_virgin_host_does_not_fail(unprovisioned: Application) -> None:
    with unchanged(unprovisioned.host):
        played = unprovisioned.deploy(check=True, diff=True).succeeded()
    assert "The host is not prepared for applications yet" in played.output


def test_removing_what_is_not_there_changes_nothing(app: Application, unprovisioned: Application) -> None:
    for each in (app, unprovisioned):
        with unchanged(each.host):
            assert each.play("remove").succeeded().changed == 0


@pytest.mark.parametrize("playbook", ["status", "rollback"])
def test_playbooks_for_an_application_that_is_not_there(app: Application, playbook: str) -> None:
    variables: dict[str, Any] = {"app_release": "0123456789ab"} if playbook == "rollback" else {}
    with unchanged(app.host):
        played = app.play(playbook, variables=variables)
    if playbook == "rollback":
        assert f"There is no release 0123456789ab on {app.limit}." in played.failed().message()
        assert "Next step" in played.message()
    else:
        played.succeeded()
        assert "not deployed" in played.output
    assert played.changed == 0
