# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""F6 with a real HAProxy: 200 OK to everything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.pyfleet.runtime.tests.unit.flow.proxies import (
    ask,
    free_port,
    program,
    render,
    running,
    with_ports,
)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder: Path = tmp_path_factory.mktemp("block")
    listen = free_port()
    config = folder / "haproxy.cfg"
    config.write_text(with_ports(render("block.cfg.j2", "block", {}), listen, 1))
    with running([program("haproxy"), "-db", "-f", str(config)], listen, folder / "log"):
        yield listen


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PURGE"])
@pytest.mark.parametrize("path", ["/", "/admin?a=b", "/.git/config"])
def test_f6_200_to_any_method_and_path(port: int, method: str, path: str) -> None:
    answer = ask(port, path, method=method)
    assert (answer.status, answer.body) == (200, b"OK")


def test_f6_head_has_no_body(port: int) -> None:
    answer = ask(port, "/", method="HEAD")
    assert (answer.status, answer.body) == (200, b"")


def test_f6_a_body_is_taken(port: int) -> None:
    assert ask(port, "/", method="POST", body=b"x" * 8_000).status == 200
