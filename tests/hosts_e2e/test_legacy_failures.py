# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Legacy deployments that fail: a clear message, nothing changed, the old release serving. One application for the whole file."""

from __future__ import annotations

import itertools
import json
import shutil
from typing import Any

import pytest

from . import legacy
from .conftest import FIXTURES, Application, Maker
from .test_failures import LAST_WORDS, SOON, UNTOUCHED, untouched

HOST = "bookworm1"
SECRET = "s3cret-of-alice"
_versions = itertools.count(1)


@pytest.fixture(scope="module")
def deployed(make_module_app: Maker) -> Application:
    """The application of this file, serving. It answers as the tiny fixture does, so that it can be watched alike."""
    app = make_module_app("frail", "legacy-flask", limit=HOST)
    app.env["CC_PYTHON_BACKEND"] = "gunicorn"
    app.env["WSGI_WORKERS"] = "1"
    app.deploy().succeeded()
    return app


@pytest.fixture
def app(deployed: Application) -> Application:
    """The application with a source like the fixture's but for the version."""
    shutil.rmtree(deployed.source)
    shutil.copytree(FIXTURES / "legacy-flask", deployed.source, ignore=shutil.ignore_patterns("__pycache__"))
    deployed.change(f"new-{next(_versions)}")
    return deployed


def recover(app: Application) -> None:
    """The corrected deployment serves."""
    app.change(f"corrected-{next(_versions)}")
    app.deploy().succeeded()
    assert app.version() == (app.source / "VERSION").read_text().strip()


#: What is found before any host changes: variables, files of the source, words of the message.
REFUSED: dict[str, tuple[dict[str, str], dict[str, str], list[str]]] = {
    "unknown_backend": (
        {"CC_PYTHON_BACKEND": "waitress"},
        {},
        ["CC_PYTHON_BACKEND", "waitress", "uwsgi, gunicorn, daphne, uvicorn"],
    ),
    "http_json_broken": ({}, {"clevercloud/http.json": '{"aliases": {'}, ["clevercloud/http.json"]),
    "http_json_wrong_type": (
        {},
        {"clevercloud/http.json": json.dumps({"aliases": ["/a"], "charset": "utf-9"})},
        ["clevercloud/http.json", "aliases", "charset", "utf-9"],
    ),
    "http_json_breaks_out": (
        {},
        {"clevercloud/http.json": json.dumps({"aliases": {'/a" {return 200;} location "/b': "/c"}})},
        ["clevercloud/http.json", "aliases"],
    ),
    "requirements_unparsable": (
        {},
        {"requirements.txt": "flask==3.1.3\nthis is ==== not a requirement\n"},
        ["requirements.txt"],
    ),
    "requirements_not_there": (
        {"CC_PIP_REQUIREMENTS_FILE": "needs.txt"},
        {},
        ["CC_PIP_REQUIREMENTS_FILE", "needs.txt"],
    ),
    "basic_auth_without_colon": ({"CC_HTTP_BASIC_AUTH": SECRET}, {}, ["CC_HTTP_BASIC_AUTH", "colon"]),
    "basic_auth_wrong_index": (
        {"CC_HTTP_BASIC_AUTH_FIRST": f"alice:{SECRET}"},
        {},
        ["CC_HTTP_BASIC_AUTH_FIRST"],
    ),
    "static_path_outside": (
        {"STATIC_FILES_PATH": "../../../etc", "STATIC_URL_PREFIX": "/static"},
        {},
        ["STATIC_FILES_PATH", "../../../etc"],
    ),
    "celery_missing": (
        {"CC_PYTHON_CELERY_MODULE": "tasks"},
        {"tasks.py": "from celery import Celery\n"},
        ["CC_PYTHON_CELERY_MODULE", "elery", "requirements.txt"],
    ),
    "nothing_to_run": (
        {"CC_PYTHON_MODULE": ""},
        {},
        ["CC_PYTHON_MODULE", "CC_RUN_COMMAND", "CC_PYTHON_CELERY_MODULE", "uv.lock", "CC_PYTHON_UV_RUN_COMMAND"],
    ),
    "module_is_a_file": ({"CC_PYTHON_MODULE": "shop.py"}, {}, ["CC_PYTHON_MODULE", "module:object"]),
    "numbers_out_of_bounds": (
        {"WSGI_WORKERS": "many", "NGINX_READ_TIMEOUT": "0", "CC_GUNICORN_LOGLEVEL": "chatty"},
        {},
        ["WSGI_WORKERS", "many", "NGINX_READ_TIMEOUT", "CC_GUNICORN_LOGLEVEL", "chatty"],
    ),
    "python_2": ({"CC_PYTHON_VERSION": "2"}, {}, ["CC_PYTHON_VERSION", "2.7", "bullseye"]),
    "uwsgi_directive_of_the_platform": (
        {"CC_PYTHON_BACKEND": "uwsgi", "CC_UWSGI_EXTRA_CONFIG": "socket = :9000"},
        {},
        ["CC_UWSGI_EXTRA_CONFIG", "socket"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.rule("G", "A5", "B7", "C2")
def test_g_refused_before_any_host_changes(app: Application, case: str) -> None:
    env, files, words = REFUSED[case]
    for path, text in files.items():
        (app.source / path).parent.mkdir(exist_ok=True)
        (app.source / path).write_text(text)
    state = app.host(f"find /etc/pyfleet/{app.name} /srv/pyfleet/{app.name} -xdev | sort | sha256sum")
    before = app.fingerprint()
    failed = app.deploy(env).failed()
    for word in [*words, "Next step", "nothing was changed"]:
        assert word in failed.message(), failed.message()
    assert SECRET not in failed.output
    assert failed.changed == 0
    assert app.fingerprint() == before
    assert app.host(f"find /etc/pyfleet/{app.name} /srv/pyfleet/{app.name} -xdev | sort | sha256sum") == state
    assert app.ask("/version").status == 200


def test_after_all_refusals_a_good_deployment_succeeds(app: Application) -> None:
    recover(app)


@pytest.mark.rule("B7")
def test_b7_a_requirement_that_does_not_exist(app: Application) -> None:
    (app.source / "requirements.txt").write_text("flask==3.1.3\niniconfig==999.0\n")
    with untouched(app):
        failed = app.deploy().failed()
    for word in ("iniconfig", "999.0", "requirements.txt", "Next step", UNTOUCHED):
        assert word in failed.message()
    assert len(app.host(f"ls /srv/pyfleet/{app.name}/venvs").split()) == 1, "no half-built environment stays"


@pytest.mark.parametrize(
    ("backend", "text", "words"),
    [
        pytest.param("gunicorn", "import missing_module\n", ["No module named 'missing_module'"], id="gunicorn_import"),
        pytest.param("gunicorn", "def app(:\n", ["SyntaxError"], id="gunicorn_syntax"),
        pytest.param("uwsgi", "import missing_module\n", ["No module named 'missing_module'"], id="uwsgi_import"),
        pytest.param("uwsgi", "application = None\n", ["unable to load app"], id="uwsgi_object"),
    ],
)
@pytest.mark.rule("G", "E6")
def test_g_a_module_that_does_not_import(app: Application, backend: str, text: str, words: list[str]) -> None:
    (app.source / "shop.py").write_text(text)
    called = f"/srv/pyfleet/{app.name}/home/called"
    app.host(f"rm -f {called}")
    options: dict[str, Any] = {"variables": {"app_health_deadline": 15}}
    with untouched(app):
        failed = app.deploy(
            {"CC_PYTHON_BACKEND": backend, "CC_RUN_FAILED_HOOK": "echo called > ~/called"}, **options
        ).failed()
    for word in [*words, "Next step"]:
        assert word in failed.message(), failed.message()
    assert app.host.read(called) == "called\n"
    assert [unit for unit in app.units() if unit.endswith(".service")] == [
        f"app-{app.name}@{legacy.release(app)}.service"
    ], "what failed does not go on trying"
    running = app.host(
        f"systemctl list-units --plain --no-legend 'app-{app.name}-nginx@*' 'app-{app.name}@*.socket' | wc -l"
    )
    assert running == "2", "one Nginx and one socket, those of the release that serves"


@pytest.mark.rule("E3", "E6", "G")
def test_e3_unhealthy_behind_nginx(app: Application) -> None:
    with untouched(app):
        failed = app.deploy({"BEHAVIOUR": "unhealthy"}, **SOON).failed()
    for word in (
        "Response from GET /health is 500",
        "Health check failed:",
        "- GET /health returned 500.",
        LAST_WORDS,
    ):
        assert word in failed.output
    # with other Nginx settings, on an Nginx of its own
    with untouched(app):
        failed = app.deploy({"BEHAVIOUR": "unhealthy", "NGINX_READ_TIMEOUT": "77"}, **SOON).failed()
    assert "- GET /health returned 500." in failed.output
    assert app.host(f"systemctl list-units --plain --no-legend --state=active 'app-{app.name}-nginx@*' | wc -l") == "1"
    recover(app)


@pytest.mark.rule("D8", "B6")
def test_d8_hooks_of_a_legacy_release(app: Application) -> None:
    home = f"/srv/pyfleet/{app.name}/home"
    with untouched(app):
        failed = app.deploy({"CC_PRE_RUN_HOOK": "echo words of the hook; exit 9"}).failed()
    for word in ("CC_PRE_RUN_HOOK failed with status 9.", "words of the hook"):
        assert word in failed.message()
    with untouched(app):
        failed = app.deploy({"CC_PRE_BUILD_HOOK": "echo words of the hook; exit 7"}).failed()
    assert "CC_PRE_BUILD_HOOK" in failed.message()
    app.change(f"corrected-{next(_versions)}")
    played = app.deploy(
        {
            "CC_PRE_BUILD_HOOK": "echo pre > ~/order; echo 'iniconfig==2.0.0' >> requirements.txt",
            "CC_POST_BUILD_HOOK": "echo post >> ~/order; python -c 'import flask, iniconfig'",
            "CC_PRE_RUN_HOOK": "echo run >> ~/order",
            "CC_RUN_SUCCEEDED_HOOK": "echo good >> ~/order",
        }
    ).succeeded()
    assert app.host.read(f"{home}/order").split() == ["pre", "post", "run", "good"]
    assert played.of("legacy_build")[0].result["installed"]["iniconfig"] == "2.0.0"
    recover(app)
