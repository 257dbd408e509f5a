# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deployments that go well: on all four suites, again, changed, back, beside others, and removed."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess

import pytest

from ansible_collections.pyfleet.runtime.tests.hosts_e2e.conftest import Application, Maker

ALL = ["bullseye1", "bookworm1", "trixie1", "forky1"]
FASTAPI = {
    "CC_PYTHON_UV_RUN_COMMAND": "uv run uvicorn app.main:app --host 0.0.0.0 --port $PORT",
    "CC_HEALTH_CHECK_PATH": "/health",
}


@pytest.mark.rule("H1", "A1", "B1", "B9", "C1", "D1", "D2", "E3")
def test_h1_the_fastapi_guides_application_on_all_four_suites(make_app: Maker) -> None:
    app = make_app("fast", "fastapi", limit=",".join(ALL))
    app.env = dict(FASTAPI)
    app.variables["app_switch"] = "auto"
    planned = app.play("plan").succeeded()
    assert planned.changed == 0 or {event.action for event in planned.events if event.changed} == {
        "pyfleet.runtime.managed_files"
    }
    assert "Mode         uv: uv.lock exists; CC_PYTHON_UV_RUN_COMMAND is a valid command" in planned.stdout
    assert "side by side" in planned.stdout
    assert "+ fastapi " in planned.stdout
    assert not app.bed.host("bookworm1").exists("/srv/pyfleet/fast"), "the plan only reads"

    deployed = app.deploy().succeeded()
    assert "Response from GET /health is 200" in deployed.stdout
    numbers = []
    for name in ALL:
        app.limit = name
        answer = app.json()
        assert answer["message"] == "Hello from FastAPI"
        assert answer["port"] in ("18080", "28080")
        numbers.append(answer["instance"])
        release = app.linked()
        venv = f"/srv/pyfleet/fast/releases/{release}/.venv"
        assert app.host(f"head -1 {venv}/bin/uvicorn | cut -c3-").startswith(venv), "built at its final path (B9)"
        listed = app.host(f"uv pip list --python {venv} --format json")
        names = {package["name"] for package in json.loads(listed)}
        assert "fastapi" in names
        assert "iniconfig" not in names, "the dev group stays out of production (B1)"
        assert app.host("ps -o user= -C uvicorn | sort -u") == "app-fast"
        assert (
            app.host(f"find /srv/pyfleet/fast/releases -mindepth 1 -not -user app-fast; stat -c %a {venv}/..") == "750"
        )
    assert sorted(numbers) == ["0", "1", "2", "3"]

    app.limit = ",".join(ALL)
    again = app.deploy().succeeded()
    assert again.changed == 0, "a second run changes nothing"
    dry = app.deploy(check=True, diff=True).succeeded()
    assert dry.changed == 0


@pytest.mark.rule("A1")
def test_a_dry_run_on_a_virgin_host_changes_nothing_and_does_not_fail(make_app: Maker) -> None:
    app = make_app("dry", limit="trixie1")
    app.bed.reset("trixie1")
    try:
        before = app.host(
            "find / -xdev -newer /proc/1/stat -type f -not -path '/proc/*' 2>/dev/null | wc -l; ls /srv /etc"
        )
        played = app.bed.play("playbooks/provision.yml", limit="trixie1", check=True, diff=True).succeeded()
        assert played.changed > 0
        assert not app.host.exists("/usr/local/bin/uv")
        assert not app.host.exists("/etc/pyfleet")
        assert app.host("ls /srv /etc") in before
    finally:
        app.bed.play("playbooks/provision.yml", limit="trixie1").succeeded()
    dry = app.deploy(check=True, diff=True).succeeded()
    assert dry.changed > 0
    assert not app.host.exists("/srv/pyfleet/dry")
    assert not app.host.exists("/etc/systemd/system/app-dry@.service")
    app.deploy().succeeded()
    assert app.version() == "1.0.0"


@pytest.mark.parametrize("fixture", ["guide-simple", "guide-bigger"])
def test_h1_the_guides_layouts_deploy_unchanged(make_app: Maker, fixture: str) -> None:
    app = make_app("guide", fixture)
    module = "main:app" if fixture == "guide-simple" else "app.main:app"
    app.env = {"CC_PYTHON_UV_RUN_COMMAND": f"uv run uvicorn {module} --host 0.0.0.0 --port $PORT"}
    app.variables["app_switch"] = "auto"
    app.deploy().succeeded()
    status, _body = app.get("/docs")
    assert status == 200


@pytest.mark.rule("A2")
def test_a2_app_folder_is_the_project_root(make_app: Maker) -> None:
    app = make_app("space", "workspace")
    app.env = {
        "APP_FOLDER": "service",
        "CC_PYTHON_UV_RUN_COMMAND": "uv run python web.py",
    }
    app.deploy().succeeded()
    assert app.get("/")[0] == 200
    release = app.linked()
    assert app.host.exists(f"/srv/pyfleet/space/releases/{release}/service/.venv/bin/python")


def test_code_change_rollback_and_redeployment(app: Application) -> None:
    app.deploy().succeeded()
    first = app.linked()
    app.change("2.0.0")
    app.deploy().succeeded()
    second = app.linked()
    assert (app.version(), app.linked("previous")) == ("2.0.0", first)

    app.play("rollback").succeeded()
    assert (app.version(), app.linked(), app.linked("previous")) == ("1.0.0", first, second)
    status = app.play("status").succeeded()
    assert "shop: healthy" in status.stdout
    assert f"release {first}" in status.stdout
    assert "Response from GET /health is 200" in status.stdout

    again = app.deploy().succeeded()
    assert not again.of("uv_sync"), "a release that is built already is only switched to"
    assert app.version() == "2.0.0"
    assert app.deploy().succeeded().changed == 0

    named = app.play("rollback", variables={"app_release": first}).succeeded()
    assert named.changed == 1
    missing = app.play("rollback", variables={"app_release": "0" * 12}).failed()
    assert "There is no release 000000000000" in missing.message()


def test_environment_and_command_roll_back_with_the_code(app: Application) -> None:
    app.deploy({"COLOUR": "blue"}).succeeded()
    app.deploy({"COLOUR": "green", "CC_PYTHON_UV_RUN_COMMAND": "uv run python -u server.py"}).succeeded()
    assert app.environment()["COLOUR"] == b"green"
    app.play("rollback").succeeded()
    assert app.environment()["COLOUR"] == b"blue"
    assert app.json("/whoami")["argv"] == ["server.py"]


def test_old_releases_are_pruned_but_never_current_previous_or_pinned(app: Application) -> None:
    app.variables["app_keep_releases"] = 1
    for number in range(5):
        app.change(f"1.{number}")
        app.deploy().succeeded()
    releases = app.host("ls /srv/pyfleet/shop/releases").split()
    assert len(releases) == 3
    assert {app.linked(), app.linked("previous")} <= set(releases)
    assert sorted(app.state()["releases"]) == sorted(releases)
    settings = app.host("cd /etc/pyfleet/shop; ls -d */ | tr -d /").split()
    assert sorted(settings) == sorted(releases)


@pytest.mark.rule("B2", "C5")
def test_b2_development_brings_the_dev_group(make_app: Maker) -> None:
    app = make_app("dev", "fastapi")
    app.env = {**FASTAPI, "ENVIRONMENT": "development"}
    app.variables["app_switch"] = "auto"
    app.deploy().succeeded()
    listed = app.host(f"uv pip list --python /srv/pyfleet/dev/releases/{app.linked()}/.venv --format json")
    assert "iniconfig" in {package["name"] for package in json.loads(listed)}


@pytest.mark.rule("B5")
def test_b5_the_cache_survives_between_deployments(app: Application) -> None:
    app.deploy().succeeded()
    app.bed.cut("bookworm1")
    try:
        app.change("2.0.0")
        app.deploy().succeeded()
    finally:
        app.bed.uncut("bookworm1")
    assert app.version() == "2.0.0"
    assert app.host.exists("/srv/pyfleet/shop/home/.cache/uv")


@pytest.mark.rule("D3")
def test_d3_nothing_of_a_web_server_is_installed_or_configured(app: Application) -> None:
    # legacy applications of other tests may have brought Nginx to this host
    there = (
        "command -v nginx uwsgi gunicorn; dpkg -l 'nginx*' | grep ^ii; find /etc/nginx -type f 2>/dev/null | sort; true"
    )
    before = app.host(there)
    app.deploy({"CC_PYTHON_BACKEND": "gunicorn", "CC_PYTHON_MODULE": "server:app"}).succeeded()
    assert app.host(there) == before
    listing = app.host("ls /etc/systemd/system | grep shop; ls /etc/pyfleet/shop")
    assert "nginx" not in listing
    assert app.host("pgrep -c -u app-shop .") == "1"


@pytest.mark.rule("A4")
def test_a4_what_is_ignored_is_told_in_the_plan(app: Application) -> None:
    (app.source / "requirements.txt").write_text("flask\n")
    planned = app.play("plan", {"CC_PYTHON_BACKEND": "gunicorn", "HARAKIRI": "10"}).succeeded()
    for name in ("requirements.txt", "CC_PYTHON_BACKEND", "HARAKIRI"):
        assert name in planned.stdout


def test_three_applications_share_a_host_and_removing_one_leaves_the_others(make_app: Maker) -> None:
    apps = [make_app(f"shop{number}") for number in range(3)]
    for number, app in enumerate(apps):
        app.port = 8080 + number
        app.change(f"{number}.0.0")
        app.deploy().succeeded()
    users = {app.json("/whoami")["user"] for app in apps}
    assert users == {"app-shop0", "app-shop1", "app-shop2"}
    pids = [app.json("/whoami")["pid"] for app in apps]

    taken = make_app("late")
    taken.port = 8081
    refused = taken.deploy().failed()
    assert "Port 8081 belongs to the application shop1" in refused.message()
    assert not taken.host.exists("/srv/pyfleet/late")

    apps[1].play("remove").succeeded()
    for number in (0, 2):
        assert apps[number].version() == f"{number}.0.0"
        assert apps[number].json("/whoami")["pid"] == pids[number]
    host = apps[0].host
    assert host.run("curl -s --max-time 2 localhost:8081", check=False).rc != 0
    left = host("ls /etc/systemd/system /etc/pyfleet /etc/pyfleet/redirects; nft list table inet pyfleet")
    assert "shop1" not in left
    assert "8081" not in left
    assert host("ls /srv/pyfleet/shop1") == "home", "what the application may have written stays unless asked"
    assert apps[1].play("remove").succeeded().changed == 0


@pytest.mark.parametrize("kind", ["git", "archive"])
def test_sources_git_and_archive(app: Application, tmp_path: pathlib.Path, kind: str) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        done = subprocess.run(
            ["git", *identity, *arguments], cwd=app.source, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    git("init", "-q")
    git("add", "--force", ".")
    git("commit", "-qm", "first")
    git("tag", "v1")
    commit = git("rev-parse", "HEAD")
    if kind == "git":
        source = {"git": str(app.source), "version": "v1"}
    else:
        archive = tmp_path / "shop.tar.gz"
        git("archive", "--format=tar.gz", "--prefix=shop-1/", f"--output={archive}", "HEAD")
        digest = subprocess.run(["sha256sum", str(archive)], capture_output=True, text=True, check=True).stdout.split()[
            0
        ]
        commit = digest
        source = {"archive": str(archive), "checksum": f"sha256:{digest}"}
    app.play("deploy", variables={"app_source": source}).succeeded()
    assert app.json()["commit"] == commit
    assert app.play("deploy", variables={"app_source": source}).succeeded().changed == 0


def test_a_large_source_is_one_transfer_and_leaves_nothing_behind(app: Application) -> None:
    app.host("rm -rf /root/.ansible/tmp/*")  # of controllers that other files killed
    (app.source / "blob").write_bytes(os.urandom(1024 * 1024))
    app.deploy().succeeded()
    release = app.linked()
    assert app.host(f"stat -c '%s %U %a' /srv/pyfleet/shop/releases/{release}/blob") == "1048576 app-shop 644"
    assert app.host("ls /root/.ansible/tmp 2>/dev/null || true") == ""


def test_a_stopped_application_comes_back_with_the_next_run(app: Application) -> None:
    app.deploy().succeeded()
    app.host("systemctl stop app-shop.target")
    assert app.units() == []
    status = app.play("status").succeeded()
    assert "shop: DOWN" in status.stdout
    run = app.deploy().succeeded()
    assert not run.of("uv_sync")
    assert app.version() == "1.0.0"
