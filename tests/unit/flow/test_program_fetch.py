# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that no distribution has: fetched once, checked, taken out of what they come in."""

from __future__ import annotations

import hashlib
import http.server
import io
import tarfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.pyfleet.runtime.plugins.plugin_utils.program_fetch import ProgramError, fetch

PROGRAM = b"\x7fELF the program"


def tar(mode: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in (("v7/README", b"hello"), ("v7/oauth2-proxy", PROGRAM)):
            item = tarfile.TarInfo(name)
            item.size = len(content)
            archive.addfile(item, io.BytesIO(content))
    return buffer.getvalue()


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("v7/README", b"hello")
        archive.writestr("v7/oauth2-proxy", PROGRAM)
    return buffer.getvalue()


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("make", [lambda: tar("w:gz"), lambda: tar("w:xz"), lambda: tar("w"), zipped, lambda: PROGRAM])
def test_f11_a_program_comes_out_of_what_it_is_packed_in(tmp_path: Path, make: Callable[[], bytes]) -> None:
    content = make()
    (tmp_path / "file").write_bytes(content)
    found = fetch("oauth2-proxy", str(tmp_path / "file"), "sha256:" + digest(content).upper(), tmp_path / "cache")
    assert found.read_bytes() == PROGRAM
    assert found.stat().st_mode & 0o777 == 0o755
    assert found.name == f"oauth2-proxy-{digest(content)[:12]}"


def test_f11_a_url_is_asked_once(tmp_path: Path) -> None:
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(PROGRAM)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        for _ in range(2):
            fetch("oauth2-proxy", f"http://127.0.0.1:{server.server_port}/a", digest(PROGRAM), tmp_path)
        server.shutdown()
    assert asked == ["/a"]


@pytest.mark.parametrize(
    ("content", "checksum", "words"),
    [
        (PROGRAM, digest(b"else"), "has the checksum"),
        (PROGRAM, "", "not a sha256 checksum: (not set)"),
        (PROGRAM, "md5:1234", "not a sha256 checksum"),
        (b"hello", digest(b"hello"), "There is no oauth2-proxy in what was fetched"),
        (None, digest(PROGRAM), "could not be fetched"),
    ],
)
def test_f11_what_is_wrong_is_said_and_nothing_kept(
    tmp_path: Path, content: bytes | None, checksum: str, words: str
) -> None:
    if content is not None:
        (tmp_path / "file").write_bytes(content)
    with pytest.raises(ProgramError, match="(?s)" + words.replace("(", r"\(").replace(")", r"\)") + ".*Next step: "):
        fetch("oauth2-proxy", str(tmp_path / "file"), checksum, tmp_path / "cache")
    kept = list((tmp_path / "cache").glob("[!.]*")) if (tmp_path / "cache").exists() else []
    assert not kept


def test_f11_an_archive_without_the_program_says_what_it_holds(tmp_path: Path) -> None:
    content = tar("w:gz")
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ProgramError, match="it holds v7/README, v7/oauth2-proxy"):
        fetch("redirectionio-agent", str(tmp_path / "file"), digest(content), tmp_path / "cache")
