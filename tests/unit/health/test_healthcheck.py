# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module healthcheck as a whole, against servers of this test."""

from __future__ import annotations

import contextlib
import http.server
import io
import json
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from ansible.module_utils import basic

from ansible_collections.pyfleet.runtime.plugins.modules import healthcheck


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response({"/good": 200, "/created": 201, "/bad": 500}.get(self.path, 404))
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
        pass


@contextlib.contextmanager
def serving(address: str) -> Iterator[int]:
    with http.server.ThreadingHTTPServer((address, 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


class Run:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch = monkeypatch
        self.capsys = capsys

    def __call__(self, check: bool = False, **options: object) -> dict[str, Any]:
        arguments = {"deadline": 0, **options, "_ansible_check_mode": check}
        self.monkeypatch.setattr(basic, "_ANSIBLE_ARGS", json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode())
        if hasattr(basic, "_ANSIBLE_PROFILE"):
            self.monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy")
        self.monkeypatch.setattr(sys, "stdin", io.StringIO())
        with pytest.raises(SystemExit):
            healthcheck.main()
        result: dict[str, Any] = json.loads(self.capsys.readouterr().out)
        assert result.get("changed", False) is False
        return result


@pytest.fixture(name="run")
def _run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setattr(healthcheck, "current_port", lambda port: port)
    return Run(monkeypatch, capsys)


@pytest.mark.parametrize("check", [False, True])
def test_e1_e3_paths_are_requested_in_check_mode_too(run: Run, check: bool) -> None:
    with serving("0.0.0.0") as port:
        result = run(check, public_port=port, paths=["/good", "/bad"])
    assert result["log"][:2] == ["Response from GET /good is 200", "Response from GET /bad is 500"]
    assert result["failed"]
    assert result["msg"].startswith(
        "Health check failed:\n- GET /bad returned 500.\nIf the deployment fails after this message,"
    )
    assert "Next step:" in result["msg"]
    assert result["statuses"] == {"/good": 200, "/bad": 500}


def test_e1_other_than_200_fails_unless_widened(run: Run) -> None:
    with serving("0.0.0.0") as port:
        assert run(port=port, paths=["/created"])["failed"]
        assert "failed" not in run(port=port, paths=["/created"], accept="2xx")


def test_e2_without_paths_404_of_the_root_passes(run: Run) -> None:
    with serving("0.0.0.0") as port:
        result = run(port=port)
    assert (result["log"], result.get("failed")) == (["Response from GET / is 404"], None)


def test_e4_loopback_only(run: Run) -> None:
    with serving("127.0.0.1") as port:
        result = run(port=port)
    assert result["msg"].startswith("Your application is listening on localhost instead of publicly\n")
    assert result["statuses"] == {}


def test_e4_the_loopback_will_do_for_what_is_not_meant_for_others(run: Run) -> None:
    with serving("127.0.0.1") as port:
        result = run(port=port, paths=["/good"], loopback=True)
    assert "failed" not in result
    assert result["statuses"] == {"/good": 200}


def test_e4_nothing_listens(run: Run) -> None:
    with serving("127.0.0.1") as port:
        pass
    assert run(port=port)["msg"].startswith(f"Your application is not listening on {port}\n")


def test_e5_failure_shows_attempts_and_schedule(run: Run) -> None:
    with serving("0.0.0.0") as port:
        result = run(port=port, paths=["/bad"], deadline=0.6)
    assert result["schedule"] == [0.0, 0.25, 0.6]
    assert result["attempts"] == 3
    assert "schedule (seconds after start): 0, 0.25, 0.6" in result["msg"]


def test_bad_input_is_listed_all_at_once(run: Run) -> None:
    result = run(paths=["health", "/a b"], port=70000, also=[0], deadline=-1, timeout=0, host="a\nb")
    for words in ("7 problems", "'health'", "'/a b'", "port: 70000", "also: 0", "deadline: -1", "timeout: 0", "host:"):
        assert words in result["msg"]
    assert result["msg"].count("Next step:") == 7
