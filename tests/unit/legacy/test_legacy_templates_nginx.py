# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Section G, asked of a real Nginx that runs the rendered configuration: each setting by what a client and a backend see."""

from __future__ import annotations

import base64
import gzip
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.tests.unit.legacy.servers import (
    RELEASE,
    TOKEN,
    Answer,
    Backend,
    Nginx,
    backend,
    render_nginx,
    short_folder,
)

BOTH = pytest.mark.parametrize("protocol", ["http", "uwsgi"])


class Site:
    """Nginx with toys behind the links `serving` and `probed`."""

    def __init__(self, nginx: Nginx, first: Backend, second: Backend) -> None:
        self.nginx = nginx
        self.first = first
        self.second = second
        self.ask = nginx.ask
        self.probe = nginx.probe


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as made:
        yield made


@pytest.fixture
def start(folder: Path) -> Iterator[Any]:
    """Starts a site with the given settings."""
    with ExitStack() as stack:

        def make(**settings: Any) -> Site:
            protocol = settings.setdefault("protocol", "http")
            nginx = Nginx(folder, **settings)
            first = stack.enter_context(backend(folder / "first.sock", protocol))
            second = stack.enter_context(backend(folder / "second.sock", protocol))
            second.body = b"the probed release"
            stack.enter_context(nginx)
            return Site(nginx, first, second)

        yield make


def login(text: str) -> dict[str, str]:
    """The header of a client that knows a login and its password."""
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


def everything() -> dict[str, Any]:
    """Every setting at once."""
    return {
        "proxy_buffers": "16 16k", "proxy_buffer_size": "32k", "header_buffer": 32768, "gzip": True, "charset": "utf-8",
        "gzip_types": ["text/html", "text/plain"], "static": {"path": "static", "prefix": "/"}, "intercept_errors": True,
        "users": [["ann", "secret"]], "force_https": True, "error_pages": {"404": "pages/404.html", "503": "503"},
        "aliases": {"/old": "/new", "/": "/x"}, "languages": {"default": "en", "fr": "fr"},
    }  # fmt: skip


# -- the whole ---------------------------------------------------------------------------------------------------------------


@pytest.mark.rule("G")
@pytest.mark.parametrize("upstream", ["socket", "127.0.0.1:9000"])
@BOTH
def test_g_nginx_accepts_every_setting_at_once(folder: Path, protocol: str, upstream: str) -> None:
    """Without a word of warning."""
    for number, settings in enumerate(
        [everything(), {}, {**everything(), "static": {"path": "a b/ü", "prefix": "/p q"}}]
    ):
        place = folder / str(number)
        checked = Nginx(place, protocol=protocol, upstream=upstream, **settings).check()
        assert checked.returncode == 0, checked.stderr
        words = [line for line in checked.stderr.splitlines() if '"user" directive makes sense' not in line]
        assert not re.search(r"\[(warn|emerg|alert|crit)\]", "\n".join(words))


def test_g_the_text_names_no_release_and_no_secret() -> None:
    """Its digest is the name of a configuration that many releases share."""
    text = render_nginx(**everything())
    assert RELEASE not in text
    assert "secret" not in text
    assert TOKEN not in text
    assert "Ansible managed" not in text  # a user's may hold the date
    one, other = (render_nginx(nginx_dir=place, **everything()) for place in ("@NGINX_DIR@", "/etc/x"))
    assert one.replace("@NGINX_DIR@", "/etc/x") == other


# -- forwarding --------------------------------------------------------------------------------------------------------------


@BOTH
def test_g_the_link_leads_to_the_release_that_serves(start: Any, protocol: str) -> None:
    site = start(protocol=protocol)
    assert site.ask("/").text == "the application"
    site.nginx.lead("serving", "second")
    assert site.ask("/").text == "the probed release"
    assert [len(toy.received) for toy in (site.first, site.second)] == [1, 1]


@BOTH
def test_g_the_token_reaches_the_probed_release_and_stays_secret(start: Any, protocol: str) -> None:
    site = start(protocol=protocol)
    assert site.probe("/").text == "the probed release"
    assert TOKEN not in str(site.second.last)
    assert site.ask("/", headers={"X-Pyfleet-Probe": "guessed"}).text == "the application"
    assert "guessed" not in str(site.first.last)


FORWARDED = {
    "X-Forwarded-For": "127.0.0.1",
    "X-Forwarded-Proto": "http",
    "X-Forwarded-Host": "shop.example:8080",
    "X-Real-IP": "127.0.0.1",
    "Host": "shop.example:8080",
}


def seen(toy: Backend, protocol: str) -> dict[str, str]:
    """The last request's header fields, whatever the protocol."""
    if protocol == "http":
        return {name.title().replace("Ip", "IP").replace("Id", "ID"): value for name, value in toy.last.fields.items()}
    fields = {name[5:].replace("_", "-").title(): v for name, v in toy.last.fields.items() if name.startswith("HTTP_")}
    return {name.replace("-Ip", "-IP").replace("-Id", "-ID"): value for name, value in fields.items()}


@BOTH
def test_g_forwarding_headers_of_a_client(start: Any, protocol: str) -> None:
    site = start(protocol=protocol)
    site.ask("/", headers={"Host": "shop.example:8080", "Proxy": "http://evil", "User-Agent": "x"})
    found = seen(site.first, protocol)
    assert {name: found.get(name) for name in FORWARDED} == FORWARDED
    assert re.fullmatch("[0-9a-f]{32}", found["X-Request-ID"])
    assert "Proxy" not in found
    assert found["User-Agent"] == "x"


@BOTH
def test_g_forwarding_headers_behind_a_load_balancer(start: Any, protocol: str) -> None:
    site = start(protocol=protocol)
    site.ask(
        "/", headers={"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https", "X-Request-ID": "abcdef-123456"}
    )
    found = seen(site.first, protocol)
    assert found["X-Forwarded-For"] == "192.0.2.7, 127.0.0.1"
    assert found["X-Forwarded-Proto"] == "https"
    assert found["X-Request-ID"] == "abcdef-123456"


@pytest.mark.parametrize(
    ("said", "scheme"),
    [("HTTPS", "https"), ("https, http", "https"), ("http,https", "http"), ("httpsx", "http"), ("gopher", "http")],
)
def test_g_the_scheme_is_one_of_two_words(start: Any, said: str, scheme: str) -> None:
    site = start()
    site.ask("/", headers={"X-Forwarded-Proto": said, "X-Request-ID": "bad id\t"})
    assert site.first.last.fields["X-Forwarded-Proto"] == scheme
    assert re.fullmatch("[0-9a-f]{32}", site.first.last.fields["X-Request-ID"])


def test_g_uwsgi_variables(start: Any) -> None:
    site = start(protocol="uwsgi")
    answer = site.ask(
        "/a%20b?x=%20y",
        "POST",
        {"Host": "shop.example:8443", "X-Forwarded-Proto": "https", "Content-Type": "a/b"},
        b"123",
    )
    assert answer.text == "the application"
    fields = site.first.last.fields
    expected = {
        "REQUEST_METHOD": "POST", "PATH_INFO": "/a b", "SCRIPT_NAME": "", "QUERY_STRING": "x=%20y", "CONTENT_TYPE": "a/b",
        "CONTENT_LENGTH": "3", "REQUEST_URI": "/a%20b?x=%20y", "REQUEST_SCHEME": "https", "UWSGI_SCHEME": "https",
        "HTTPS": "on", "SERVER_PORT": "8443", "SERVER_NAME": "shop.example", "REMOTE_ADDR": "127.0.0.1",
        "SERVER_PROTOCOL": "HTTP/1.1",
    }  # fmt: skip
    assert {name: fields.get(name) for name in expected} == expected
    assert site.first.last.body == b"123"


@pytest.mark.parametrize(
    ("host", "scheme", "port"),
    [("a", "https", "443"), ("a", "http", "80"), ("a:8080", "http", "8080"), ("[::1]", "http", "80")],
)
def test_g_the_port_is_the_one_that_the_client_sees(start: Any, host: str, scheme: str, port: str) -> None:
    site = start(protocol="uwsgi")
    site.ask("/", headers={"Host": host, "X-Forwarded-Proto": scheme})
    assert site.first.last.fields["SERVER_PORT"] == port
    assert ("HTTPS" in site.first.last.fields) == (scheme == "https")


@BOTH
def test_g_headers_with_underscores_do_not_pose_as_others(start: Any, protocol: str) -> None:
    site = start(protocol=protocol)
    site.ask("/", headers={"SCRIPT_NAME": "/evil", "X_Forwarded_Proto": "https"})
    assert "evil" not in str(site.first.last)
    assert seen(site.first, protocol)["X-Forwarded-Proto"] == "http"


def test_g_a_client_without_host_is_answered(start: Any) -> None:
    site = start()
    with socket.create_connection(("127.0.0.1", site.nginx.port)) as client:
        client.sendall(b"GET /x HTTP/1.0\r\n\r\n")
        assert b"the application" in client.makefile("rb").read()
    assert site.first.last.fields["Host"] == "localhost"


def test_g_http_backends_get_the_path_as_the_client_wrote_it_over_http_1_1(start: Any) -> None:
    site = start()
    site.ask("/a%2Fb//c/../d?x=%20")
    assert site.first.last.line == "GET /a%2Fb//c/../d?x=%20 HTTP/1.1"
    assert site.first.last.fields["Connection"] == "close"


def test_g_websocket_passes(start: Any) -> None:
    site = start()

    def upgrade(client: socket.socket, request: Any) -> None:
        client.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        client.sendall(b"got " + client.recv(100))

    site.first.raw = upgrade
    with socket.create_connection(("127.0.0.1", site.nginx.port), 5) as client:
        client.sendall(b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\r\n")
        head = client.recv(1000)
        assert head.startswith(b"HTTP/1.1 101")
        client.sendall(b"frame")
        data = head.partition(b"\r\n\r\n")[2]
        while not data.endswith(b"frame"):
            data += client.recv(100)
        assert data == b"got frame"
    fields = site.first.last.fields
    assert (fields["Upgrade"].lower(), fields["Connection"].lower()) == ("websocket", "upgrade")


@pytest.mark.parametrize(("websocket", "asked"), [(True, "h2c"), (False, "websocket")])
def test_g_nothing_but_a_websocket_is_an_upgrade(start: Any, websocket: bool, asked: str) -> None:
    site = start(websocket=websocket)
    site.ask("/", headers={"Upgrade": asked, "Connection": "Upgrade"})
    assert "Upgrade" not in site.first.last.fields
    assert site.first.last.fields["Connection"] == "close"


@BOTH
def test_g_a_request_is_never_sent_twice(start: Any, protocol: str) -> None:
    site = start(protocol=protocol)
    site.first.raw = lambda client, request: client.close()
    assert site.ask("/", "POST", body=b"pay").status == 502
    assert site.ask("/").status == 502
    assert len(site.first.received) == 2


def test_g_no_backend_is_502_and_the_next_request_tries_again(start: Any, folder: Path) -> None:
    site = start()
    site.nginx.lead("serving", "third")
    assert [site.ask("/").status for _number in range(3)] == [502] * 3
    site.nginx.lead("serving", "first")
    assert site.ask("/").status == 200


@BOTH
def test_g_nginx_read_timeout(start: Any, protocol: str) -> None:
    site = start(protocol=protocol, read_timeout=1)
    site.first.delay = 3
    begun = time.monotonic()
    assert site.ask("/").status == 504
    assert time.monotonic() - begun < 2.5


@BOTH
def test_g_chunked_upload_reaches_the_backend(start: Any, protocol: str) -> None:
    site = start(protocol=protocol)
    with socket.create_connection(("127.0.0.1", site.nginx.port)) as client:
        client.sendall(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        )
        assert b"the application" in client.makefile("rb").read()
    assert site.first.last.body == b"abc"


# -- sizes -------------------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(("size", "length", "status"), [(8192, 7000, 200), (8192, 12000, 400), (32768, 30000, 200)])
def test_g_header_buffer(start: Any, protocol: str, size: int, length: int, status: int) -> None:
    site = start(protocol=protocol, header_buffer=size)
    assert site.ask("/", headers={"Cookie": "x" * length}).status == status


@BOTH
@pytest.mark.parametrize(
    ("settings", "length", "status"),
    [({}, 3000, 200), ({}, 6000, 502), ({"proxy_buffer_size": "16k", "proxy_buffers": "8 16k"}, 12000, 200)],
)
def test_g_proxy_buffer_size(start: Any, protocol: str, settings: Any, length: int, status: int) -> None:
    site = start(protocol=protocol, **settings)
    site.first.headers.append(("X-Long", "x" * length))
    assert site.ask("/").status == status


@pytest.mark.parametrize("module", ["proxy", "uwsgi"])
def test_g_proxy_buffers(module: str) -> None:
    protocol = {"proxy": "http"}.get(module, module)
    text = render_nginx(protocol=protocol, proxy_buffers="16 32k")
    assert re.search(rf"^ +{module}_buffers 16 32k;$", text, re.MULTILINE)
    assert "_buffer_size" not in text
    assert "_buffers " not in render_nginx(protocol=protocol).replace("large_client_header_buffers", "")


def test_g_max_body(start: Any) -> None:
    site = start(max_body_mb=2)
    assert site.ask("/", "POST", body=b"x" * 2 * 1024 * 1024).status == 200
    assert site.ask("/", "POST", {"Content-Length": str(2 * 1024 * 1024 + 1)}).status == 413


# -- compression -------------------------------------------------------------------------------------------------------------


@BOTH
def test_g_gzip(start: Any, protocol: str) -> None:
    site = start(protocol=protocol, gzip=True, gzip_types=["text/plain"])
    site.first.body = b"word " * 1000
    wanted = {"Accept-Encoding": "gzip"}
    answer = site.ask("/", headers={**wanted, "Via": "1.1 balancer"})
    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(answer.body) == site.first.body
    assert "Accept-Encoding" in answer.headers["vary"]
    assert "content-encoding" not in site.ask("/").headers
    site.first.headers = [("Content-Type", "text/css")]
    assert "content-encoding" not in site.ask("/", headers=wanted).headers
    site.first.headers = [("Content-Type", "text/html")]
    assert site.ask("/", headers=wanted).headers["content-encoding"] == "gzip"
    site.first.body = b"short"
    assert "content-encoding" not in site.ask("/", headers=wanted).headers


def test_g_no_gzip_unless_asked(start: Any) -> None:
    site = start()
    site.first.body = b"word " * 1000
    site.first.headers = [("Content-Type", "text/html")]
    assert "content-encoding" not in site.ask("/", headers={"Accept-Encoding": "gzip"}).headers


# -- static files ------------------------------------------------------------------------------------------------------------


def with_files(site: Site) -> Site:
    for name in (
        "app.css",
        "mod.mjs",
        "sub/page.html",
        ".env",
        ".git/config",
        "sub/.hidden/x",
        ".well-known/security.txt",
    ):
        site.nginx.file(f"static/{name}", f"file {name}")
    site.nginx.file("static/app.css", "file of the second", release="second")
    site.nginx.file("secret.txt", "secret")
    site.nginx.file("static../secret.txt", "secret")
    return site


def test_g_static_files_under_a_prefix(start: Any) -> None:
    site = with_files(start(static={"path": "static", "prefix": "/public"}))
    answer = site.ask("/public/app.css")
    assert (answer.status, answer.text, answer.headers["content-type"]) == (200, "file app.css", "text/css")
    assert site.ask("/public/mod.mjs").headers["content-type"] == "text/javascript"
    assert site.ask("/public/sub/page.html").text == "file sub/page.html"
    assert site.ask("/public/.well-known/security.txt").status == 200
    assert not site.first.received
    assert site.ask("/public/missing.css").status == 404
    assert not site.first.received
    assert site.ask("/public").text == "the application"
    assert site.ask("/publicity").text == "the application"
    assert site.ask("/app.css").text == "the application"
    moved = site.ask("/public/sub")
    assert (moved.status, moved.headers["location"]) == (301, "/public/sub/")


@pytest.mark.parametrize("prefix", ["/public", "/"])
def test_g_static_files_show_nothing_else(start: Any, prefix: str) -> None:
    site = with_files(start(static={"path": "static", "prefix": prefix}))
    base = prefix.rstrip("/")
    site.first.status = "404 Not Found"
    site.first.body = b""
    for path in ("/.env", "/.git/config", "/sub/.hidden/x", "/..%2fsecret.txt", "/%2e%2e/secret.txt", "/../secret.txt",
                 "../secret.txt", "/%2eenv", "/", "/sub/"):  # fmt: skip
        answer = site.ask(base + path)
        assert answer.status in (400, 403, 404), (path, answer)
        assert b"secret" not in answer.body
        assert b"file " not in answer.body


@BOTH
def test_g_static_prefix_slash_files_win_and_the_application_is_the_fallback(start: Any, protocol: str) -> None:
    site = with_files(start(protocol=protocol, static={"path": "static", "prefix": "/"}))
    assert site.ask("/app.css").text == "file app.css"
    assert site.ask("/.well-known/security.txt").text == "file .well-known/security.txt"
    assert not site.first.received
    for path in ("/", "/sub", "/sub/", "/other?x=1", "/.env"):
        assert site.ask(path).text == "the application", path
    assert site.ask("/form%2Fx?a=%20", "POST", body=b"x").text == "the application"
    assert site.first.last.body == b"x"
    if protocol == "http":
        assert site.first.last.line == "POST /form%2Fx?a=%20 HTTP/1.1"
    else:
        assert site.first.last.fields["PATH_INFO"] == "/form/x"


def test_g_static_files_are_those_of_the_release(start: Any) -> None:
    site = with_files(start(static={"path": "static", "prefix": "/public"}))
    assert site.probe("/public/app.css").text == "file of the second"
    site.nginx.lead("serving", "second")
    assert site.ask("/public/app.css").text == "file of the second"


def test_g_static_files_conditional_and_ranges(start: Any) -> None:
    site = with_files(start(static={"path": "static", "prefix": "/public"}))
    answer = site.ask("/public/app.css")
    assert site.ask("/public/app.css", headers={"If-None-Match": answer.headers["etag"]}).status == 304
    assert site.ask("/public/app.css", headers={"If-Modified-Since": answer.headers["last-modified"]}).status == 304
    part = site.ask("/public/app.css", headers={"Range": "bytes=5-7"})
    assert (part.status, part.text) == (206, "app")
    assert site.ask("/public/app.css", "HEAD").headers["content-length"] == "12"
    assert site.ask("/public/app.css", "POST").status == 405


def test_g_static_path_with_odd_characters(start: Any) -> None:
    site = start(static={"path": "my files/ü", "prefix": "/p q"})
    site.nginx.file("my files/ü/a b.txt", "found")
    assert site.ask("/p%20q/a%20b.txt").text == "found"


@pytest.mark.parametrize("static", [None, {"path": "static", "prefix": "/public"}, {"path": "static", "prefix": "/"}])
def test_g_without_backend_static_files_and_404(start: Any, static: Any) -> None:
    site = start(protocol="none", upstream="", websocket=False, static=static)
    site.nginx.file("static/a.txt", "file")
    place = (static or {"prefix": "/"})["prefix"].rstrip("/")
    assert site.ask(f"{place}/a.txt").status == (200 if static else 404)
    assert [site.ask(path).status for path in ("/", "/other", "/.env", f"{place}/.env")] == [404] * 4
    assert site.probe("/").status == 404


# -- basic authentication ----------------------------------------------------------------------------------------------------


@BOTH
def test_g_basic_authentication(start: Any, protocol: str) -> None:
    site = start(
        protocol=protocol, users=[["ann", "se:cret"], ["bob", "ü €"]], static={"path": "static", "prefix": "/public"}
    )
    site.nginx.file("static/a.txt", "file")
    for path in ("/", "/public/a.txt"):
        refused = site.ask(path)
        assert refused.status == 401
        assert refused.headers["www-authenticate"].startswith("Basic realm=")
        assert site.ask(path, headers=login("ann:wrong")).status == 401
        assert site.ask(path, headers=login("ann:se:cret")).status == 200
        assert site.ask(path, headers=login("bob:ü €")).status == 200
        assert site.probe(path).status in (200, 404)  # 404: the probed release has no such file
    written = (site.nginx.front / "htpasswd").read_text()
    assert "cret" not in written
    assert "$6$" in written


# -- http.json ---------------------------------------------------------------------------------------------------------------


def test_g_force_https(start: Any) -> None:
    site = start(force_https=True, users=[["ann", "secret"]])
    answer = site.ask("/a%20b?x=1", headers={"Host": "shop.example:8080"})
    assert (answer.status, answer.headers["location"]) == (301, "https://shop.example/a%20b?x=1")
    assert answer.headers["vary"] == "X-Forwarded-Proto"
    assert site.ask("/", headers={"X-Forwarded-Proto": "http"}).status == 301
    assert site.ask("/", headers={"X-Forwarded-Proto": "https"}).status == 401
    assert site.ask("/", headers={"X-Forwarded-Proto": "https", **login("ann:secret")}).status == 200
    assert site.probe("/").text == "the probed release"
    assert not site.ask("/").headers.get("www-authenticate")


def test_g_charset(start: Any) -> None:
    site = start(charset="latin-1", static={"path": "static", "prefix": "/public"})
    for name in ("a.css", "a.js", "a.html"):
        site.nginx.file(f"static/{name}", b"\xe4")
        answer = site.ask(f"/public/{name}")
        assert answer.headers["content-type"].endswith("; charset=latin-1")
        assert answer.body == b"\xe4"
    assert site.ask("/").headers["content-type"] == "text/plain; charset=latin-1"
    site.first.headers = [("Content-Type", "text/plain; charset=koi8-r")]
    assert site.ask("/").headers["content-type"] == "text/plain; charset=koi8-r"
    site.first.headers = [("Content-Type", "image/png")]
    assert site.ask("/").headers["content-type"] == "image/png"


def error_site(start: Any, **settings: Any) -> Site:
    site: Site = start(
        error_pages={"404": "pages/404.html", "401": "pages/401.html", "502": "pages/down", "500": "pages/500.html"},
        static={"path": "static", "prefix": "/public"},
        **settings,
    )
    for name in ("404.html", "401.html", "down", "500.html"):
        site.nginx.file(f"pages/{name}", f"own page {name}")
    return site


@BOTH
def test_g_error_pages_of_nginx_itself(start: Any, protocol: str) -> None:
    site = error_site(start, protocol=protocol)
    answer = site.ask("/public/missing")
    assert (answer.status, answer.text, answer.headers["content-type"]) == (404, "own page 404.html", "text/html")
    site.first.raw = lambda client, request: client.close()
    answer = site.ask("/", "POST", body=b"x")
    assert (answer.status, answer.text, answer.headers["content-type"]) == (502, "own page down", "text/html")
    assert site.ask("/.pyfleet/404/404.html").status in (404, 502)
    assert "own page 404" in site.ask("/.pyfleet/404/404.html").text  # internal: the error's page, not a file


@BOTH
def test_g_uwsgi_intercept_errors(start: Any, protocol: str) -> None:
    site = error_site(start, protocol=protocol, intercept_errors=True)
    site.first.status, site.first.body = "500 Oops", b"the application's own"
    assert (site.ask("/").status, site.ask("/").text) == (500, "own page 500.html")
    site.first.status = "410 Gone"
    assert site.ask("/").text == "the application's own"


@BOTH
def test_g_the_applications_errors_are_its_own_unless_asked(start: Any, protocol: str) -> None:
    site = error_site(start, protocol=protocol)
    site.first.status, site.first.body = "404 Not Found", b"the application's own"
    assert (site.ask("/").status, site.ask("/").text) == (404, "the application's own")


def test_g_error_page_of_a_refused_login_and_of_a_refused_scheme(start: Any) -> None:
    site = error_site(start, users=[["ann", "secret"]], force_https=True)
    answer = site.ask("/", headers={"X-Forwarded-Proto": "https"})
    assert (answer.status, answer.text) == (401, "own page 401.html")
    assert answer.headers["www-authenticate"]


def test_g_aliases(start: Any) -> None:
    site = start(
        aliases={"/old": "/new?x=1#y", "/é t": "https://other.example/a", "/": "/home", "/money": "/$host"},
        languages={"default": "en"},
    )
    for path, target in (
        ("/old", "/new?x=1#y"),
        ("/%C3%A9%20t", "https://other.example/a"),
        ("/", "/home"),
        ("/money", "/%24host"),
    ):
        answer = site.ask(path)
        assert (answer.status, answer.headers["location"]) == (302, target)
    assert site.ask("/old/x").status == 200
    assert site.ask("/older").status == 200


@BOTH
@pytest.mark.parametrize(
    ("accepted", "target"),
    [
        (None, "/en/"), ("fr", "/fr/"), ("FR-ch, de;q=0.5", "/fr/"), ("fr-CA,fr;q=0.8", "/ca/"), ("fr;q=0.8", "/fr/"),
        ("de, fr", "/en/"), ("frx", "/en/"), (" pt-BR", "/pt/"), ("*", "/en/"),
    ],
)  # fmt: skip
def test_g_languages(start: Any, protocol: str, accepted: str | None, target: str) -> None:
    site = start(protocol=protocol, languages={"default": "en", "fr": "fr", "fr-ca": "ca", "pt-br": "pt"})
    headers = {"Accept-Language": accepted} if accepted else {}
    answer = site.ask("/?x=1", headers=headers)
    assert (answer.status, answer.headers["location"]) == (302, target)
    assert answer.headers["vary"] == "Accept-Language"
    assert site.ask("/other", headers=headers).status == 200
    assert site.probe("/", headers).status == 200


def test_g_languages_without_default_leave_others_to_the_application(start: Any) -> None:
    site = start(languages={"fr": "fr"}, static={"path": "static", "prefix": "/"})
    assert site.ask("/", headers={"Accept-Language": "fr"}).status == 302
    assert site.ask("/", headers={"Accept-Language": "de"}).text == "the application"


# -- redirects and what else ---------------------------------------------------------------------------------------------------


def test_g_the_internal_port_never_shows(start: Any) -> None:
    site = with_files(start(static={"path": "static", "prefix": "/public"}, aliases={"/old": "/new"}))
    site.first.status, site.first.headers = "302 Found", [("Location", "http://shop.example/next")]
    answers: list[Answer] = [site.ask(path) for path in ("/public/sub", "/old", "/next")]
    assert [answer.headers["location"] for answer in answers] == ["/public/sub/", "/new", "http://shop.example/next"]
    assert answers[0].headers["server"] == "nginx"


def test_g_quotes_in_values_stay_values(folder: Path) -> None:
    nginx = Nginx(folder, aliases={'/a"b\\': '/c"d\\', "/e;f{g}": "/h"}, static={"path": 'x"y;z', "prefix": "/{a"})
    nginx.file('x"y;z/file', "found")
    with nginx:
        assert nginx.ask('/a"b\\').headers["location"] == '/c"d\\'
        assert nginx.ask("/e;f{g}").headers["location"] == "/h"
        assert nginx.ask("/{a/file").text == "found"


def test_g_access_log_goes_to_the_journal(folder: Path) -> None:
    """/dev/log is what journald listens on. Here a socket of the test's takes its place."""
    nginx = Nginx(folder, protocol="uwsgi")
    text = (nginx.front / "nginx.conf").read_text()
    assert "syslog:server=unix:/dev/log," in text
    assert "tag=app_shop " in text
    (nginx.front / "nginx.conf").write_text(text.replace("unix:/dev/log", f"unix:{folder}/log"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(f"{folder}/log")
        (folder / "log").chmod(0o666)
        journal.settimeout(5)
        with backend(folder / "first.sock", "uwsgi"), nginx:
            nginx.ask(
                '/a"b',
                headers={
                    "X-Forwarded-For": "192.0.2.7",
                    "X-Request-ID": "abcdef-123456",
                    "Referer": "xy",
                },
            )
            line = journal.recv(4000).decode()
    assert re.match(r"<30>\w+ +\d+ [\d:]+ app_shop: 127\.0\.0\.1 - - \"GET /a", line)
    for part in (' 200 15 "xy" ', 'host="shop.example"', 'forwarded_for="192.0.2.7"', "request_id=abcdef-123456", "to=serving",
                 "upstream_time=0.", "upstream_status=200"):  # fmt: skip
        assert part in line
    assert 'a"b' not in line


def test_g_a_tag_is_letters_digits_and_underscores() -> None:
    text = render_nginx()
    assert len("app_" + "x" * 28) <= 32  # Nginx's limit, for the longest name
    assert re.search(r"tag=[a-z0-9_]+ pyfleet;", text)
