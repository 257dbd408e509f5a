# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every row of section G changes the server that runs: it is asked of uWSGI, of Gunicorn's processes and of Nginx, and of
answers that come back; not of the files that were written.

One application goes through a few deployments, each with many settings at once.
"""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import re
import time
from typing import Any

import pytest

from . import legacy
from .conftest import Answer, Application, Maker

HOST = "bookworm1"
#: Words that no program on a host has: a whole host is searched for them, with the sources in uv's cache.
PASSWORDS = {"CC_HTTP_BASIC_AUTH": "alice:first:qu0kka$land", "CC_HTTP_BASIC_AUTH_1": "bob:séc ond-zw1rner"}
#: How Nginx marks a file: time and size, both hexadecimal. Flask's marks have three parts.
NGINX_TAG = r'"[0-9a-f]+-[0-9a-f]+"$'
GZIP = {"Accept-Encoding": "gzip"}


@pytest.fixture(scope="module")
def app(make_module_app: Maker) -> Application:
    """The Flask fixture on bookworm."""
    return make_module_app("rows", "legacy-flask", limit=HOST)


def encoding(app: Application, kind: str) -> str:
    """How an answer of this type is compressed."""
    answer = app.ask(f"/page?size=4096&type={kind}", headers=GZIP)
    assert answer.status == 200
    coded = answer.headers.get("Content-Encoding", "")
    assert len(gzip.decompress(answer.body) if coded == "gzip" else answer.body) == 4096
    return coded


def timed(app: Application, path: str) -> tuple[int, float]:
    """The status of an answer, and how many seconds it took."""
    started = time.monotonic()
    status = app.ask(path, timeout=60).status
    return status, time.monotonic() - started


# -- uWSGI and Nginx with nothing set --------------------------------------------------------------------------------------


@pytest.mark.rule("G")
def test_g_defaults_of_uwsgi_and_nginx(app: Application) -> None:
    app.deploy().succeeded()
    cores = int(app.host("nproc"))
    statistics = legacy.statistics(app)
    expected = max(1, min(2 * cores + 1, int(app.host("awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo")) // 256))
    assert len(statistics["workers"]) == expected
    assert {len(worker["cores"]) for worker in statistics["workers"]} == {min(4, cores)}
    server = app.ask("/server").json()
    options = server["options"]
    assert (options["harakiri"], options["post-buffering"]) == ("180", "4096")
    assert server["uwsgi"] == {"version": server["uwsgi"]["version"], "workers": expected, "buffer": 4096}
    assert server["file_wrapper"] is True
    assert not {"gevent", "async", "ugreen"} & options.keys()

    running = legacy.nginx(app)
    assert "uwsgi_read_timeout 300s;" in running
    for absent in ("gzip on", "uwsgi_buffers", "uwsgi_buffer_size", "intercept_errors", "auth_basic ", "charset "):
        assert absent not in running
    assert encoding(app, "text/css") == ""
    assert app.ask("/error/503").text == "the application's own words for 503\n"
    assert app.ask("/long-header?size=3000").status == 200
    assert app.ask("/long-header?size=6000").status == 502, "Nginx's own buffer holds 4 KiB"
    assert app.ask("/version", headers={"X-Long": "x" * 6000}).status >= 400, "uWSGI's buffer holds 4096 bytes"
    assert not re.match(NGINX_TAG, app.ask("/static/site.css").headers["ETag"]), "the application serves it"
    assert app.ask("/version").headers["Connection"] != "close", "HTTP/1.1: connections are kept"


# -- uWSGI and Nginx with everything set -------------------------------------------------------------------------------------


HTTP_JSON: dict[str, Any] = {
    "languages": {"default": {"rewrite": "en"}, "fr": {"rewrite": "french"}, "pt-BR": {"rewrite": "brasil"}},
    "error_pages": {"404": "/errors/missing.html", "503": "errors/later.html"},
    "aliases": {"/old": "/version", "/elsewhere": "https://example.org/there?a=%24b"},
    "charset": "utf-8",
}
EVERYTHING = {
    "HARAKIRI": "2",
    "WSGI_BUFFER_SIZE": "16384",
    "WSGI_POST_BUFFERING": "8192",
    "WSGI_WORKERS": "3",
    "WSGI_THREADS": "4",
    "CC_UWSGI_EXTRA_CONFIG": "max-requests = 5000\nmemory-report = true",
    "CC_UWSGI_DISABLE_FILE_WRAPPER": "true",
    "UWSGI_INTERCEPT_ERRORS": "true",
    "NGINX_READ_TIMEOUT": "120",
    "CC_NGINX_PROXY_BUFFERS": "16 16k",
    "CC_NGINX_PROXY_BUFFER_SIZE": "16k",
    "ENABLE_GZIP_COMPRESSION": "yes",
    "STATIC_FILES_PATH": "static",
    "STATIC_URL_PREFIX": "/public",
}


@pytest.fixture(scope="module")
def everything(app: Application) -> Application:
    """The application with every setting of uWSGI and Nginx, and http.json."""
    for path, text in {
        "clevercloud/http.json": json.dumps(HTTP_JSON),
        "errors/missing.html": "<p>own page for 404</p>\n",
        "errors/later.html": "<p>own page for 503</p>\n",
        "static/.hidden": "nobody's business\n",
        "static/text.txt": "Grüße\n",
    }.items():
        (app.source / path).parent.mkdir(exist_ok=True)
        (app.source / path).write_text(text)
    app.deploy(EVERYTHING).succeeded()
    assert app.deploy(EVERYTHING).succeeded().changed == 0
    return app


@pytest.mark.rule("G")
def test_g_uwsgi_runs_with_what_is_set(everything: Application) -> None:
    app = everything
    statistics = legacy.statistics(app)
    assert len(statistics["workers"]) == 3
    assert {len(worker["cores"]) for worker in statistics["workers"]} == {4}
    server = app.ask("/server").json()
    options = server["options"]
    assert (options["harakiri"], options["post-buffering"]) == ("2", "8192")
    assert (options["max-requests"], options["memory-report"]) == ("5000", "true")
    assert server["uwsgi"]["buffer"] == 16384
    assert server["file_wrapper"] is False
    file = app.ask("/file")
    assert (file.status, len(file.body)) == (200, (app.source / "static" / "site.css").stat().st_size)
    # uWSGI's limit is the worker's: the end of the request before, which comes after its answer, would lift it from this one.
    time.sleep(1)
    status, seconds = timed(app, "/slow?seconds=20")
    assert status == 502
    assert 1.5 < seconds < 8, "HARAKIRI ended it"
    app.host.wait_until("journalctl --sync; journalctl -q -o cat -u 'app-rows@*' | grep -q HARAKIRI")
    assert app.ask("/version", headers={"X-Long": "x" * 7000}).status == 200, "WSGI_BUFFER_SIZE holds it"


@pytest.mark.rule("G")
def test_g_nginx_runs_with_what_is_set(everything: Application) -> None:
    app = everything
    running = legacy.nginx(app)
    for directive in ("uwsgi_read_timeout 120s;", "uwsgi_buffers 16 16k;", "uwsgi_buffer_size 16k;"):
        assert directive in running
    assert app.ask("/long-header?size=12000").status == 200
    for kind in (
        "text/plain text/css text/xml text/javascript application/json application/xml application/javascript "
        "image/svg+xml text/html"
    ).split():
        assert encoding(app, kind.replace("+", "%2B")) == "gzip", kind
    for kind in ("application/octet-stream", "image/png", "text/csv"):
        assert encoding(app, kind) == ""
    assert app.ask("/page?size=4096").headers.get("Content-Encoding") is None, "who does not ask gets plain text"


@pytest.mark.rule("G")
def test_g_static_files_below_a_prefix(everything: Application) -> None:
    app = everything
    answer = app.ask("/public/site.css")
    assert answer.status == 200
    assert re.match(NGINX_TAG, answer.headers["ETag"]), "Nginx serves it"
    assert answer.body == (app.source / "static" / "site.css").read_bytes()
    assert app.ask("/public/site.css", headers={"Range": "bytes=0-9"}).status == 206
    again = app.ask("/public/site.css", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")
    for path in (
        "/public/missing.css", "/public/../shop.py", "/public/%2e%2e/shop.py", "/public../shop.py", "/public/.hidden",
        "/public/..%2fshop.py",
    ):  # fmt: skip
        refused = app.ask(path)
        assert refused.status in (400, 404), path
        assert b"Flask" not in refused.body
        assert b"business" not in refused.body
    assert app.ask("/version").status == 200


@pytest.mark.rule("G")
def test_g_intercepted_errors_and_error_pages(everything: Application) -> None:
    app = everything
    for code, page in ((404, "own page for 404"), (503, "own page for 503")):
        answer = app.ask(f"/error/{code}")
        assert (answer.status, page in answer.text) == (code, True)
    other = app.ask("/error/500")
    assert other.status == 500
    assert "the application's own words for 503" not in app.ask("/error/503").text
    assert app.ask("/.pyfleet/404/missing.html").status == 404, "the page has no address of its own"


@pytest.mark.rule("G")
def test_g_http_json_aliases_languages_and_charset(everything: Application) -> None:
    app = everything
    alias = app.ask("/old")
    assert (alias.status, alias.headers["Location"]) == (302, "/version")
    assert app.ask("/elsewhere").headers["Location"] == "https://example.org/there?a=%24b"
    for accepted, folder in {
        "fr-CA,fr;q=0.9,en;q=0.5": "french",
        "pt-BR": "brasil",
        "pt": "en",
        "de": "en",
        "": "en",
        "en-GB,fr;q=0.3": "en",
    }.items():
        answer = app.ask("/", headers={"Accept-Language": accepted} if accepted else {})
        assert (answer.status, answer.headers["Location"]) == (302, f"/{folder}/"), accepted
        assert "Accept-Language" in answer.headers["Vary"]
    assert app.ask("/public/text.txt").headers["Content-Type"] == "text/plain; charset=utf-8"
    assert app.ask("/version").headers["Content-Type"] in ("application/json", "application/json; charset=utf-8")
    running = legacy.nginx(app)
    assert re.search(r'^charset "?utf-8"?;$', running, re.MULTILINE)


# -- basic authentication, force_https, files before the application ------------------------------------------------------------


def authorized(pair: str) -> dict[str, str]:
    """The header of a login and its password."""
    return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


@pytest.fixture(scope="module")
def guarded(everything: Application) -> tuple[Application, str]:
    """The application behind passwords and HTTPS, with files that win; and all that Ansible said while it was deployed."""
    app = everything
    (app.source / "clevercloud" / "http.json").write_text(json.dumps({"force_https": "ENABLED"}))
    (app.source / "web").mkdir()
    (app.source / "web" / "pid").write_text("a file\n")
    (app.source / "web" / ".secret").write_text("nobody's business\n")
    env = {
        **PASSWORDS,
        "STATIC_FILES_PATH": "/web",
        "STATIC_URL_PREFIX": "/",
        "ENABLE_GZIP_COMPRESSION": "on",
        "GZIP_TYPES": "text/csv text/html",
        "UWSGI_ASYNC": "7",
        "UWSGI_ASYNC_ENGINE": "ugreen",
        "WSGI_WORKERS": "2",
    }
    output = app.deploy(env, verbosity=4, diff=True).succeeded().output
    return app, output + app.play("status", env, verbosity=4).succeeded().output


@pytest.mark.rule("G", "I")
def test_g_basic_authentication_lets_in_who_knows_a_password(guarded: tuple[Application, str]) -> None:
    app, _output = guarded

    def ask(path: str, pair: str = "") -> Answer:
        return app.ask(path, headers={**(authorized(pair) if pair else {}), "X-Forwarded-Proto": "https"})

    for pair in PASSWORDS.values():
        assert ask("/version", pair).status == 200
    told = ask("/headers", PASSWORDS["CC_HTTP_BASIC_AUTH"]).json()
    assert told["scheme"] == "https"
    for wrong in ("", "alice:wrong", "alice:first", "nobody:first:qu0kka$land", "alice:", ":", "bob:first:qu0kka$land"):
        refused = ask("/version", wrong)
        assert refused.status == 401, wrong
        assert refused.headers["WWW-Authenticate"].startswith("Basic realm=")
    assert ask("/pid").status == 401, "static files too"
    assert ask("/health").status == 401, "the health check's own way in is not everybody's"


@pytest.mark.rule("G", "I")
def test_i_no_password_is_readable_on_the_host_or_in_the_output(guarded: tuple[Application, str]) -> None:
    app, output = guarded
    for password in ("first:qu0kka$land", "séc ond-zw1rner", "qu0kka$land", "ond-zw1rner"):
        assert password not in output
        for coded in (base64.b64encode(password.encode()).decode().rstrip("="), json.dumps(password)[1:-1]):
            assert coded not in output
    for word in ("qu0kka", "ond-zw1rner"):
        pattern = f"{word[0]}[{word[1]}]{word[2:]}"  # does not find itself
        found = app.host(
            f"grep -rIl --exclude-dir=venvs '{pattern}' /etc/pyfleet /srv/pyfleet /run /var/lib/pyfleet /var/log /root /tmp "
            f"2>/dev/null; grep -la '{pattern}' /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null; "
            f"journalctl --sync; journalctl -q | grep '{pattern}'; true"
        )
        assert found == ""
    key = legacy.front(app)
    stored = app.host.read(f"/etc/pyfleet/rows/nginx-{key}/htpasswd").splitlines()
    assert [line.split(":")[0] for line in stored] == ["alice", "bob"]
    assert all(re.match(r"\w+:\$6\$[^$]{8,}\$[^$]{80,}$", line) for line in stored)
    assert app.host(f"stat -c '%a %U %G' /etc/pyfleet/rows/nginx-{key}/htpasswd") == "640 root app-rows"
    assert app.host.run(f"cat /etc/pyfleet/rows/nginx-{key}/htpasswd", check=False, user="nosudo").rc != 0


@pytest.mark.rule("G")
def test_g_force_https(guarded: tuple[Application, str]) -> None:
    app, _output = guarded
    address = app.host.address
    plain = app.ask("/version?a=b", headers=authorized(PASSWORDS["CC_HTTP_BASIC_AUTH"]))
    assert (plain.status, plain.headers["Location"]) == (301, f"https://{address}/version?a=b")


@pytest.mark.rule("G")
def test_g_prefix_root_files_win_and_the_application_is_the_fallback(guarded: tuple[Application, str]) -> None:
    app, _output = guarded
    headers = {**authorized(PASSWORDS["CC_HTTP_BASIC_AUTH"]), "X-Forwarded-Proto": "https"}
    assert app.ask("/pid", headers=headers).text == "a file\n"
    assert app.ask("/version", headers=headers).json()["version"]
    assert app.ask("/.secret", headers=headers).status == 404
    assert b"business" not in app.ask("/.secret", headers=headers).body


@pytest.mark.rule("G")
def test_g_gzip_types_and_asynchronous_cores(guarded: tuple[Application, str]) -> None:
    app, _output = guarded
    headers = {**authorized(PASSWORDS["CC_HTTP_BASIC_AUTH"]), "X-Forwarded-Proto": "https", **GZIP}
    coded = {
        kind: app.ask(f"/page?size=4096&type={kind}", headers=headers).headers.get("Content-Encoding", "")
        for kind in ("text/csv", "text/html", "text/css", "application/json")
    }
    assert coded == {"text/csv": "gzip", "text/html": "gzip", "text/css": "", "application/json": ""}
    statistics = legacy.statistics(app)
    assert [len(worker["cores"]) for worker in statistics["workers"]] == [7, 7]
    options = app.ask("/server", headers=headers).json()["options"]
    assert (options["async"], options["ugreen"]) == ("7", "true")


# -- Gunicorn ------------------------------------------------------------------------------------------------------------------


@pytest.mark.rule("G")
def test_g_gunicorn_defaults_then_settings(guarded: tuple[Application, str]) -> None:
    app, _output = guarded
    (app.source / "clevercloud" / "http.json").unlink()
    app.env["CC_PYTHON_BACKEND"] = "gunicorn"
    app.deploy().succeeded()
    cores = int(app.host("nproc"))
    assert len(legacy.children(app)) == 2 * cores + 1
    server = app.ask("/server").json()
    assert server["software"].startswith("gunicorn/")
    assert (server["multithread"], server["multiprocess"]) == (False, True)
    written = legacy.journal(app)
    assert "Using worker: sync" in written
    assert "[DEBUG]" not in written
    assert "proxy_read_timeout 300s;" in legacy.nginx(app)
    pids = {app.ask("/pid").text for _number in range(30)}
    assert len(pids) > 1

    app.deploy(
        {
            "CC_GUNICORN_TIMEOUT": "2",
            "CC_GUNICORN_LOGLEVEL": "debug",
            "WSGI_WORKERS": "3",
            "CC_NGINX_PROXY_BUFFER_SIZE": "32k",
        }
    ).succeeded()
    assert len(legacy.children(app)) == 3
    # uWSGI's limit is the worker's: the end of the request before, which comes after its answer, would lift it from this one.
    time.sleep(1)
    status, seconds = timed(app, "/slow?seconds=20")
    assert status in (500, 502), "whichever the worker comes to say before it ends"
    assert 1.5 < seconds < 10, "CC_GUNICORN_TIMEOUT ended the worker"
    app.host.wait_until("journalctl --sync; journalctl -q -o cat -u 'app-rows@*' | grep -q 'WORKER TIMEOUT'")
    assert "[DEBUG]" in legacy.journal(app)
    assert "proxy_buffer_size 32k;" in legacy.nginx(app)
    assert app.ask("/long-header?size=20000").status == 200


@pytest.mark.rule("G")
def test_g_gunicorn_worker_class_threads_and_nginx_read_timeout(guarded: tuple[Application, str]) -> None:
    app, _output = guarded
    app.env["CC_PYTHON_BACKEND"] = "gunicorn"
    pages = {"error_pages": {"503": "errors/later.html"}}
    (app.source / "clevercloud" / "http.json").write_text(json.dumps(pages))
    app.deploy(
        {
            "CC_GUNICORN_WORKER_CLASS": "gthread",
            "WSGI_WORKERS": "1",
            "WSGI_THREADS": "6",
            "NGINX_READ_TIMEOUT": "2",
            "UWSGI_INTERCEPT_ERRORS": "true",
        }
    ).succeeded()
    assert "Using worker: gthread" in legacy.journal(app)
    assert len(legacy.children(app)) == 1
    assert app.ask("/server").json()["multithread"] is True
    threads = int(app.host(f"ls /proc/$(pgrep -P {legacy.backend_pid(app)})/task | wc -l"))
    assert threads >= 2
    status, seconds = timed(app, "/slow?seconds=5")
    assert status == 504
    assert 1.5 < seconds < 4, "NGINX_READ_TIMEOUT ended it"
    assert "<p>own page for 503</p>" in app.ask("/error/503").text
    assert app.ask("/error/500").text == "the application's own words for 500\n", "there is no page for it"

    # one connection, several requests: HTTP/1.1 from end to end, and parts arrive as they are sent
    connection = http.client.HTTPConnection(app.host.address, app.port, timeout=10)
    ports = set()
    for _number in range(3):
        connection.request("GET", "/version")
        answer = connection.getresponse()
        assert (answer.status, answer.version) == (200, 11)
        answer.read()
        assert connection.sock is not None, "the connection is kept"
        ports.add(connection.sock.getsockname()[1])
    assert len(ports) == 1
    started = time.monotonic()
    connection.request("GET", "/stream")
    answer = connection.getresponse()
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert answer.read(7) == b"part 0 "
    assert time.monotonic() - started < 0.5, "the first part does not wait for the last one"
    answer.read()
    connection.close()


@pytest.mark.rule("G")
def test_g_the_access_log_goes_to_the_journal(app: Application) -> None:
    app.ask("/version?seen=in-the-journal", headers={"User-Agent": "the test", "X-Forwarded-Proto": "https"})
    line = app.host.wait_until(
        "journalctl --sync; journalctl -q -o cat -t app_rows | grep 'seen=in-the-journal' || journalctl -q | grep 'seen=in-the-journal'"
    )
    for words in ('"GET /version?seen=in-the-journal HTTP/1.1"', "200", "the test", "scheme=https"):
        assert words in line
