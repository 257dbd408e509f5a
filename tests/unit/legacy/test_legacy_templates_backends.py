# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The backends' settings and the units as text; real servers are asked in tests/hosts_e2e/test_legacy_servers.py."""

from __future__ import annotations

import ast
import configparser
import subprocess
from typing import Any

import pytest
import yaml

from ansible_collections.pyfleet.runtime.plugins.module_utils.legacy import Project
from ansible_collections.pyfleet.runtime.plugins.module_utils.nginx_settings import read_nginx
from ansible_collections.pyfleet.runtime.plugins.module_utils.settings import Settings
from ansible_collections.pyfleet.runtime.tests.tools import stage_tree
from ansible_collections.pyfleet.runtime.tests.unit.legacy.servers import (
    NGINX,
    TEMPLATES,
    VARIABLES,
    Nginx,
    render,
    render_gunicorn,
    render_nginx,
    render_uwsgi,
    short_folder,
)


def options(text: str) -> dict[str, str]:
    """The directives of uwsgi.ini; one that is there twice is an error."""
    parser = configparser.RawConfigParser(strict=True)
    parser.read_string(text)
    return dict(parser["uwsgi"])


@pytest.mark.parametrize(("stop", "mercy"), [(30, "28"), (5, "3"), (2, "1"), (1, "1")])
def test_g_uwsgi_is_done_before_systemd_loses_patience(stop: int, mercy: str) -> None:
    found = options(render("uwsgi.ini.j2", app_stop_seconds=stop, server=server(), plan={}))
    assert (found["worker-reload-mercy"], found["reload-mercy"]) == (mercy, mercy)
    text = render("gunicorn.conf.py.j2", app_stop_seconds=stop, server={**server(), "settings": gunicorn()}, plan={})
    assert f"graceful_timeout = {mercy}\n" in text


def server() -> dict[str, Any]:
    settings = {
        "harakiri": 180, "buffer_size": 4096, "post_buffering": 4096, "async": 0, "async_engine": "", "file_wrapper": True, "extra": [],
    }  # fmt: skip
    return {"module": "shop:app", "workers": 2, "threads": 1, "gevent": False, "settings": settings}


def gunicorn() -> dict[str, Any]:
    return {"worker_class": "sync", "timeout": 30, "loglevel": "info"}


def test_g_uwsgi_takes_no_socket_of_its_own() -> None:
    """It would be there twice, and gevent's loop dies of the one without a descriptor. `vacuum` would remove systemd's."""
    found = options(render_uwsgi())
    assert not {"socket", "vacuum", "chmod-socket", "listen", "die-on-term"} & set(found)
    assert {"strict", "need-app", "master", "enable-threads"} <= set(found)


def test_g_uwsgi_threads_and_cores_exclude_each_other() -> None:
    assert options(render_uwsgi(threads=3))["threads"] == "3"
    assert "threads" not in options(render_uwsgi(threads=1))
    for settings in ({"async": 10, "async_engine": "gevent"}, {"async": 10, "async_engine": "ugreen"}):
        assert "threads" not in options(render_uwsgi(settings, threads=3))


def test_g_gunicorn_settings_are_plain_python() -> None:
    """Python 2.7 reads them too (C2): no annotations, no f-strings, ASCII only."""
    text = render_gunicorn()
    assert text.isascii()
    tree = ast.parse(text)
    assert not [node for node in ast.walk(tree) if isinstance(node, (ast.AnnAssign, ast.JoinedStr, ast.NamedExpr))]
    names = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert "bind" not in names
    assert {"workers", "threads", "worker_class", "timeout", "graceful_timeout", "loglevel"} <= names


@pytest.mark.parametrize("template", ["socket.j2", "nginx@.service.j2"])
@pytest.mark.parametrize("hardening", [True, False])
def test_units_have_known_sections_and_no_key_twice(template: str, hardening: bool) -> None:
    text = render(template, app_hardening=hardening)
    parser = configparser.RawConfigParser(strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    assert set(parser.sections()) <= {"Unit", "Socket", "Service"}  # nothing pulls them in by itself
    assert parser["Unit"]["PartOf"] == "app-shop.target"
    if template == "nginx@.service.j2":
        assert ("ProtectSystem" in parser["Service"]) is hardening
        assert parser["Service"]["KillSignal"] == "SIGQUIT"
    else:
        assert parser["Socket"]["Backlog"] == "4096"
        assert parser["Socket"]["Service"] == "app-shop@%i.service"


def test_units_name_no_release() -> None:
    for template in ("socket.j2", "nginx@.service.j2"):
        assert VARIABLES["release"] not in render(template)


def test_g_the_plans_settings_are_those_of_the_tests() -> None:
    """What the plan says of Nginx, with everything set, is what a real one accepts."""
    env = {
        "CC_NGINX_PROXY_BUFFERS": "16 16k", "CC_NGINX_PROXY_BUFFER_SIZE": "16k", "ENABLE_GZIP_COMPRESSION": "on",
        "STATIC_FILES_PATH": "static", "STATIC_URL_PREFIX": "/public", "CC_HTTP_BASIC_AUTH": "ann:secret",
        "UWSGI_INTERCEPT_ERRORS": "true", "NGINX_READ_TIMEOUT": "7",
    }  # fmt: skip
    http_json = (
        '{"force_https": true, "charset": "utf-8", "aliases": {"/a": "/b"}, "error_pages": {"404": "404.html"},'
        ' "languages": {"default": {"rewrite": "en"}, "fr-ca": {"rewrite": "/fr/"}}}'
    )
    settings = Settings(env)
    project = Project("", ["static/a.css", "404.html"], {"clevercloud/http.json": http_json})
    planned = read_nginx(settings, project=project, buffer_size=4096, max_body_mb=512)
    assert not settings.findings
    assert set(planned) | {"upstream", "protocol", "websocket"} == set(NGINX)
    for protocol in ("http", "uwsgi"):
        with short_folder() as folder:
            checked = Nginx(folder, **planned, protocol=protocol).check()
            assert checked.returncode == 0, checked.stderr
            assert "[warn]" not in checked.stderr
            assert "_read_timeout 7s;" in render_nginx(**planned, protocol=protocol)


def test_the_role_refuses_to_be_called_directly() -> None:
    play = [{"hosts": "localhost", "gather_facts": False, "roles": ["pyfleet.runtime.legacy"]}]
    with short_folder() as folder:
        (folder / "play.yml").write_text(yaml.safe_dump(play))
        done = subprocess.run(
            [
                stage_tree.ROOT / ".venv/bin/ansible-playbook",
                "-i",
                "localhost,",
                "-c",
                "local",
                str(folder / "play.yml"),
            ],
            capture_output=True,
            text=True,
            check=False,
            env={
                "PATH": "/usr/bin:/bin",
                "HOME": str(folder),
                "ANSIBLE_COLLECTIONS_PATH": str(stage_tree.ROOT / ".work/collections"),
            },
        )
    assert done.returncode == 2
    assert "call the role pyfleet.runtime.app" in done.stdout + done.stderr


def test_every_template_is_used() -> None:
    """A file that no task names would be dead."""
    tasks = (TEMPLATES.parent / "tasks/build.yml").read_text()
    assert not [path.name for path in TEMPLATES.iterdir() if path.name not in tasks]
