# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""F8: how a VCL is completed, and a real Varnish that compiles it, serves with it and takes the next one."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pyfleet.runtime.plugins.module_utils import varnish
from ansible_collections.pyfleet.runtime.tests.unit.flow.proxies import (
    Application,
    application,
    ask,
    free_port,
    program,
    render,
    running,
    with_ports,
)

# -- the text ---------------------------------------------------------------------------------------------------------------


def test_f8_version_and_backend_are_supplied_on_the_first_line() -> None:
    text = "import std;\n\nsub vcl_recv {\n}\n"
    complete = varnish.compose(text)
    assert complete.startswith('vcl 4.1; backend default { .host = "127.0.0.1"; .port = "@FORWARD_PORT@";')
    assert complete.splitlines()[0].endswith("import std;")
    assert complete.splitlines()[1:] == text.splitlines()[1:]


@pytest.mark.parametrize(
    ("text", "version", "line"),
    [
        ("vcl 4.1;\nsub x {}", "4.1", "        "),
        ("vcl 4.0;\nsub x {}", "4.0", "        "),
        ("# mine\n/* vcl 4.0; */ vcl\n 4.1 ; // yes\n", "4.1", "# mine"),
        ("sub x {}", "4.1", "sub x {}"),
        ("", "4.1", ""),
        ('sub x { set req.http.a = "vcl 4.0;"; }', "4.1", 'sub x { set req.http.a = "vcl 4.0;"; }'),
        ("\ufeffvcl 4.0;\r\nsub x {}\r\n", "4.0", "        "),
    ],
)
def test_f8_the_authors_own_version_line_counts_once(text: str, version: str, line: str) -> None:
    complete = varnish.compose(text)
    assert complete.startswith(f"vcl {version}; backend default ")
    assert complete.splitlines()[0].endswith("} " + line)
    assert len(re.findall(r"(?m)^[^#/]*\bvcl\s+4\.\d\s*;", complete.replace('"vcl 4.0;"', ""))) == 1
    assert len(complete.splitlines()) == max(1, len(text.splitlines()))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('backend default { .host = "x"; }', [("backend", "default", 1)]),
        ("vcl 4.1;\n\nbackend none none;", [("backend", "none", 3)]),
        ("import std; director d random { }", [("director", "d", 1)]),
        ("sub vcl_recv { }\nbackend a{}backend b {}", [("backend", "a", 2), ("backend", "b", 2)]),
        ("/* backend a { */ # backend b {\n// backend c {", []),
        ('sub vcl_synth { set resp.body = "backend a {"; }', []),
        ('sub vcl_synth { synthetic({"\nbackend a {\n"}); }\n', []),
        ('sub vcl_synth { synthetic("""\nbackend a {\n"""); }\n', []),
        ("sub vcl_recv { set req.backend_hint = default; backend x; }", []),
        ("probe backend { }", []),
        ("import directors;\nsub vcl_init { new backend = directors.random(); }", []),
        ("sub x {} } backend late {}", [("backend", "late", 1)]),
        ("# a comment without an end of line", []),
        ("/* a comment without an end", []),
    ],
)
def test_f8_a_declared_backend_is_seen(text: str, found: list[tuple[str, str, int]]) -> None:
    assert [(item.kind, item.name, item.line) for item in varnish.declarations(text)] == found


@given(st.text(alphabet='vcl 4.1;{}"#/*\nbackendC\r'))
def test_f8_any_text_is_read(text: str) -> None:
    assert varnish.compose(text).startswith("vcl ")
    varnish.declarations(text)


# -- a real Varnish ---------------------------------------------------------------------------------------------------------


def test_f8_what_is_no_vcl_is_said_in_varnishs_words_and_the_authors_lines() -> None:
    varnishd = program("varnishd")
    assert (
        varnish.compile_check(varnish.compose('import std;\nsub vcl_recv { std.log("a"); }'), program=varnishd) is None
    )
    words = varnish.compile_check(varnish.compose("vcl 4.0;\n\nsub vcl_recv { sett x = 1; }\n"), program=varnishd)
    assert words is not None
    assert "Symbol not found: 'sett'" in words
    assert "line 3, position 16" in words
    assert "/tmp" not in words
    assert "Could not delete" not in words


def test_f8_the_compiler_runs_as_nobody(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    code, output = varnish.run_as("nobody")(["id", "-un"])
    assert (code, output.strip()) == (0, "nobody")


@dataclass
class Varnish:
    """A Varnish before an application."""

    port: int
    application: Application
    instance: str
    folder: Path


VCL = """vcl 4.1;
sub vcl_backend_response { set beresp.grace = 1h; }
sub vcl_deliver { set resp.http.X-Hits = obj.hits; set resp.http.X-Vcl = "%s"; }
"""


def write(folder: Path, name: str, text: str, forward: int, first: bool = True) -> str:
    path = folder / name
    path.write_text(varnish.with_port(varnish.compose(text, first), forward))
    return str(path)


def arguments(folder: Path, listen: int) -> list[str]:
    """The command line of the unit, for a folder of the test."""
    environment = with_ports(render("varnish.environment.j2", "varnish", {"storage": "32M"}), listen, 1)
    values = dict(line.split("=", 1) for line in environment.splitlines() if not line.startswith("#"))
    unit = render("varnish.service.j2", "varnish", {"storage": "32M"})
    command = next(line for line in unit.splitlines() if line.startswith("ExecStart="))[len("ExecStart=") :]
    command = command.replace("/etc/pyfleet/shop/flow@%i/0-varnish", str(folder))
    command = command.replace("/var/cache/pyfleet-flow-shop-%i-varnish", str(folder / "work"))
    for name, value in {"VARNISH_LISTEN_IPV6": "", **values}.items():
        command = command.replace("${" + name + "}", value).replace("$" + name, value)
    assert "$" not in command
    return [program("varnishd"), *command.split()[1:]]


@pytest.fixture(scope="module")
def hop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Varnish]:
    folder = tmp_path_factory.mktemp("varnish")
    listen = free_port()
    with application() as served:
        write(folder, "default.vcl", VCL % "boot", served.port)
        with running(arguments(folder, listen), listen, folder / "log"):
            yield Varnish(listen, served, str(folder / "work"), folder)


def test_f8_the_next_vcl_serves_without_a_lost_cache(hop: Varnish) -> None:
    assert ask(hop.port, "/cached").headers["x-hits"] == "0"
    assert ask(hop.port, "/cached").headers["x-hits"] == "1"
    path = write(hop.folder, "next.vcl", VCL % "next", hop.application.port)
    assert varnish.load(hop.instance, "r_next", path) is None
    assert ask(hop.port, "/cached").headers["x-vcl"] == "boot"
    assert varnish.use(hop.instance, "r_next") is None
    answer = ask(hop.port, "/cached")
    assert (answer.headers["x-vcl"], answer.headers["x-hits"]) == ("next", "3")
    assert varnish.loaded(hop.instance) == {"boot": False, "r_next": True}
    assert varnish.discard_cold(hop.instance, keep=["boot"]) == []
    assert varnish.discard_cold(hop.instance) == ["boot"]
    assert varnish.loaded(hop.instance) == {"r_next": True}


def test_f8_a_broken_vcl_changes_nothing(hop: Varnish) -> None:
    before = varnish.loaded(hop.instance)
    words = varnish.load(hop.instance, "r_bad", write(hop.folder, "bad.vcl", "sub vcl_recv {\n sett x;\n}", 1))
    assert words is not None
    assert "Symbol not found: 'sett'" in words
    assert "line 2, position" in words
    assert varnish.loaded(hop.instance) == before
    assert varnish.use(hop.instance, "r_bad") is not None
    assert ask(hop.port, "/cached").status == 200


def test_f8_no_varnish_is_said(tmp_path: Path) -> None:
    assert varnish.loaded(str(tmp_path)) == {}
    assert varnish.load(str(tmp_path), "r_a", "/nowhere") is not None
    assert varnish.discard_cold(str(tmp_path)) == []


def test_f8_requests_pass(hop: Varnish) -> None:
    answer = ask(
        hop.port,
        "/echo?a=1",
        headers={"Host": "shop.example", "X-Forwarded-For": "192.0.2.1"},
        method="POST",
        body=b"abc",
    )
    assert answer.json["body"] == "abc"
    assert answer.json["path"] == "/echo?a=1"
    assert answer.sent("Host") == ["shop.example"]
    assert answer.sent("X-Forwarded-For") == ["192.0.2.1, 127.0.0.1"]
    # So that the redirect decides anew after a switch.
    assert answer.sent("Connection") == ["close"]


def test_f8_behind_another_hop_no_address_is_added(hop: Varnish) -> None:
    assert (
        varnish.load(hop.instance, "r_second", write(hop.folder, "second.vcl", "", hop.application.port, False)) is None
    )
    assert varnish.use(hop.instance, "r_second") is None
    assert ask(hop.port, "/echo?1", headers={"X-Forwarded-For": "192.0.2.1, 192.0.2.2"}).sent("X-Forwarded-For") == [
        "192.0.2.1, 192.0.2.2"
    ]
    assert ask(hop.port, "/echo?2").sent("X-Forwarded-For") == []


HANDSHAKE = (
    b"GET /socket HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.mark.parametrize("first", [True, False], ids=["first hop", "behind another"])
def test_f8_a_websocket_passes_where_the_author_lets_it(hop: Varnish, first: bool) -> None:
    text = 'sub vcl_recv { if (req.url == "/socket") { return (pipe); } return (pass); }'
    name = f"r_socket_{first}"
    path = write(hop.folder, f"{name}.vcl", text, hop.application.port, first)
    assert varnish.load(hop.instance, name, path) is None
    assert varnish.use(hop.instance, name) is None
    with socket.create_connection(("127.0.0.1", hop.port), timeout=5) as client:
        client.sendall(HANDSHAKE)
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        assert head.startswith(b"HTTP/1.1 101 ")
        for word in (b"one", b"two"):
            client.sendall(word)
            assert client.recv(4096) == b"echo " + word
    # Elsewhere it is a request like any other: no unseen way past the VCL opens by itself.
    with socket.create_connection(("127.0.0.1", hop.port), timeout=5) as client:
        client.sendall(HANDSHAKE.replace(b"/socket", b"/echo"))
        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
    upgrade = [value for name, value in hop.application.requests[-1]["headers"] if name.lower() == "upgrade"]
    assert upgrade == []
    # What is piped and no WebSocket still ends with its answer, so that the next request comes to the VCL.
    assert ask(hop.port, "/socket").sent("Connection") == ["close"]


def test_f8_an_idle_websocket_is_left_alone_as_long_as_the_challenge_leaves_it(hop: Varnish) -> None:
    shown = varnish.run_as()([varnish.VARNISHADM, "-n", hop.instance, "param.show", "pipe_timeout"])
    assert re.search(r"Value is: 86400(\.0+)? \[seconds\]", shown[1]), shown


def test_f12_the_management_port_is_on_the_loopback_and_wants_the_secret(hop: Varnish) -> None:
    pids = subprocess.run(["pgrep", "-f", hop.instance], capture_output=True, text=True).stdout.split()
    listeners = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True).stdout.splitlines()
    addresses = [line.split()[3] for line in listeners if any(f"pid={pid}," in line for pid in pids)]
    others = [address for address in addresses if not address.endswith(f":{hop.port}")]
    assert set(addresses) - set(others) == {f"127.0.0.1:{hop.port}"}
    assert others
    assert all(address.startswith("127.0.0.1:") for address in others)
    wrong = hop.folder / "wrong"
    wrong.write_text("guessed\n")
    done = subprocess.run(
        ["varnishadm", "-T", others[0], "-S", str(wrong), "status"], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert (Path(hop.instance) / "_.secret").stat().st_mode & 0o007 == 0


def test_f8_commands_go_through_the_runner() -> None:
    asked: list[list[str]] = []

    def run(argv: Sequence[str]) -> tuple[int, str]:
        asked.append(list(argv))
        return (
            0,
            '[2, ["vcl.list", "-j"], 1.0,\n{"status": "active", "name": "b"}, {"status": "available", "name": "a"}]\n',
        )

    assert varnish.discard_cold("/w", run=run) == ["a"]
    assert asked == [
        ["/usr/bin/varnishadm", "-n", "/w", "-t", "30", "vcl.list", "-j"],
        ["/usr/bin/varnishadm", "-n", "/w", "-t", "30", "vcl.discard", "a"],
    ]
