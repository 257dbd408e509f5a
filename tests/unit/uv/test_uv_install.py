# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""uv's configuration as a pure function, the controller's cache, and the host's half of uv_install on a real uv."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

try:
    import tomllib
except ImportError:  # Python 3.10
    tomllib = None  # type: ignore[assignment]

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pyfleet.runtime.plugins.module_utils import uv, uv_config
from ansible_collections.pyfleet.runtime.plugins.modules import uv_install
from ansible_collections.pyfleet.runtime.plugins.plugin_utils import uv_fetch
from ansible_collections.pyfleet.runtime.tests.unit.uv.modules import run_module

UV = shutil.which("uv", path=str(Path(sys.executable).parent) + ":" + os.environ.get("PATH", "")) or ""
needs_uv = pytest.mark.skipif(not UV, reason="no uv in the development environment or on PATH")
needs_toml = pytest.mark.skipif(tomllib is None, reason="tomllib came with Python 3.11")

# -- uv.toml ----------------------------------------------------------------------------------------------------------------


@needs_toml
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=6),
        st.booleans() | st.integers(-(2**31), 2**31) | st.text(max_size=8) | st.lists(st.text(max_size=4), max_size=3),
        max_size=5,
    )
)
def test_any_settings_survive_toml(settings: dict[str, Any]) -> None:
    assert tomllib.loads(uv_config.render(settings)) == settings


@needs_toml
def test_tables_and_indexes_survive_toml() -> None:
    settings = {
        "native-tls": True,
        "index": [
            {"name": "a", "url": "https://a.example.org/simple", "default": True},
            {"url": "https://b.example.org"},
        ],
        "pip": {"extra": ["x"], "sub": {"key": 'quo"te\\'}},
        "ignore": [{"codes": [403, 404]}],
    }
    assert tomllib.loads(uv_config.render(settings)) == settings


@pytest.mark.parametrize(
    ("version", "name"), [("0.10.12", "native-tls"), ("0.11.0", "system-certs"), ("0.13.8", "system-certs")]
)
def test_certificates_setting_has_the_name_that_this_version_knows(version: str, name: str) -> None:
    assert uv_config.effective(version, {}, system_certs=True) == {name: True}


def test_no_settings_is_no_file() -> None:
    assert uv_config.render(uv_config.effective("0.13.8", {})) == ""


@pytest.mark.rule("I", "H2")
def test_i_h2_credentials_do_not_belong_into_a_file_that_everybody_reads() -> None:
    settings = uv_config.effective(
        "0.13.8", {}, [{"name": "internal", "url": "https://user:hunter2@a.example.org/simple"}]
    )
    found = uv_config.problems(settings)
    assert len(found) == 1
    assert "UV_INDEX_<NAME>_PASSWORD" in found[0]
    assert "hunter2" not in found[0]


def test_all_problems_of_the_settings_are_listed_at_once() -> None:
    indexes = [{"name": "a b", "url": "https://a.example.org", "default": True}, {"nmae": "c", "default": True}]
    found = "\n".join(uv_config.problems(uv_config.effective("0.13.8", {"odd": None}, indexes)))
    assert "uv_indexes[0]: the name" in found
    assert "uv_indexes[1]: nmae is not a key" in found
    assert "uv_indexes[1]: an index has a url" in found
    assert "only one index can be the default" in found
    assert "odd is NoneType" in found


# -- the controller's half --------------------------------------------------------------------------------------------------


def pack(programs: dict[str, bytes]) -> bytes:
    """A release archive: programs below a folder."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in programs.items():
            item = tarfile.TarInfo("uv-x86_64-unknown-linux-gnu/" + name)
            item.size = len(content)
            tar.addfile(item, io.BytesIO(content))
    return packed.getvalue()


def wheel(programs: dict[str, bytes]) -> bytes:
    """A wheel: programs in its scripts."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in programs.items():
            archive.writestr("uv-1.0.data/scripts/" + name, content)
    return packed.getvalue()


PROGRAMS = {"uv": b"\x7fELF uv", "uvx": b"\x7fELF uvx"}


@pytest.mark.parametrize(
    ("content", "names"), [(pack(PROGRAMS), ["uv", "uvx"]), (wheel(PROGRAMS), ["uv", "uvx"]), (PROGRAMS["uv"], ["uv"])]
)
def test_wheel_archive_and_binary_all_serve(content: bytes, names: list[str], tmp_path: Path) -> None:
    file = tmp_path / "source"
    file.write_bytes(content)
    source = uv_fetch.Source("file", "1.0", hashlib.sha256(content).hexdigest(), file=str(file))
    fetched = uv_fetch.fetch(source, "x86_64", tmp_path / "cache")
    assert sorted(fetched.programs) == names
    with tarfile.open(fetched.archive) as tar:
        assert sorted(tar.getnames()) == names
        stream = tar.extractfile("uv")
        assert stream is not None
        assert stream.read() == PROGRAMS["uv"]
    # The second time it comes from the cache, unless somebody damaged that.
    before = fetched.archive.stat().st_mtime_ns
    assert uv_fetch.fetch(source, "x86_64", tmp_path / "cache") == fetched
    assert fetched.archive.stat().st_mtime_ns == before
    fetched.archive.write_bytes(b"damaged")
    assert (
        uv_fetch.file_checksum(uv_fetch.fetch(source, "x86_64", tmp_path / "cache").archive)
        != hashlib.sha256(b"damaged").hexdigest()
    )


def test_wrong_checksum_is_refused_and_nothing_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "uv.tar.gz"
    file.write_bytes(pack(PROGRAMS))
    with pytest.raises(uv_fetch.FetchError, match="pinned by version and checksum"):
        uv_fetch.fetch(uv_fetch.Source("file", "1.0", "0" * 64, file=str(file)), "x86_64", tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("uv-*"))


def test_what_holds_no_uv_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.zip"
    for content in (wheel({"pip": b""}), pack({"pip": b""}), b"<html>not found</html>"):
        file.write_bytes(content)
        with pytest.raises(uv_fetch.FetchError, match="There is no uv"):
            uv_fetch.fetch(uv_fetch.Source("file", "1.0", file=str(file)), "x86_64", tmp_path / "cache")


def test_machine_without_a_wheel_is_told_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(uv_fetch.FetchError, match="uv_source: url or file"):
        uv_fetch.fetch(uv_fetch.Source("wheel", "0.13.8"), "armv7l", tmp_path)


def test_controller_without_uv_and_pip_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uv_fetch, "_commands", lambda *_: [])
    with pytest.raises(uv_fetch.FetchError, match="neither uv nor pip"):
        uv_fetch.fetch(uv_fetch.Source("wheel", "0.13.8"), "x86_64", tmp_path)


@pytest.mark.parametrize("text", ["", "abc", "md5:" + "0" * 64, "z" * 64])
def test_checksum_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(uv_fetch.FetchError, match="64 hexadecimal digits"):
        uv_fetch.normal_checksum(text)
    assert uv_fetch.normal_checksum(" SHA256:" + "AB" * 32 + "\n") == "ab" * 32


# -- the host's half --------------------------------------------------------------------------------------------------------


class Host:
    """A host's directories, and an archive as the controller sends it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.config = folder / "etc" / "uv" / "uv.toml"
        version = uv.parse_version_output(subprocess.check_output([UV, "--version"], text=True))
        assert version is not None
        self.version = version

    def send(self, script: str = "", digest: str = "") -> dict[str, Any]:
        """The internal options of the second question: the real uv, or a script in its place."""
        content = script.encode() if script else Path(UV).read_bytes()
        archive = self.folder / "sent.tar.gz"
        with tarfile.open(archive, "w:gz", compresslevel=0) as tar:
            item = tarfile.TarInfo("uv")
            item.size = len(content)
            tar.addfile(item, io.BytesIO(content))
        return {"archive": str(archive), "programs": {"uv": digest or hashlib.sha256(content).hexdigest()}}

    def run(self, check: bool = False, **options: Any) -> dict[str, Any]:
        """Runs the module."""
        options.setdefault("version", self.version)
        return run_module(
            uv_install.main,
            check=check,
            diff=True,
            directory=str(self.bin),
            config_path=str(self.config),
            state_file=str(self.folder / "state" / "uv.json"),
            identities={"": f"file:{options['version']}:x"},
            **options,
        )


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A virgin host."""
    if not UV:
        pytest.skip("no uv in the development environment or on PATH")
    return Host(tmp_path)


CONFIG = uv_config.MARKER + "\nnative-tls = true\n"


def test_virgin_host_asks_is_given_and_has_it(host: Host) -> None:
    predicted = host.run(check=True, config_text=CONFIG)
    assert predicted["changed"] is predicted["needed"] is True
    asked = host.run(config_text=CONFIG)
    assert asked["needed"] is True
    assert asked["changed"] is False
    assert not host.bin.exists()
    given = host.run(config_text=CONFIG, **host.send())
    assert not given.get("failed"), given["msg"]
    assert given["changed"] is True
    assert given["diff"] == predicted["diff"]
    assert given["config"] == "created"
    assert sorted(path.name for path in host.bin.iterdir()) == ["uv"]
    assert (host.bin / "uv").stat().st_mode & 0o777 == 0o755
    again = host.run(config_text=CONFIG)
    assert again["changed"] is again["needed"] is False
    assert "diff" not in again


def test_same_version_with_other_bytes_is_replaced(host: Host) -> None:
    host.run(**host.send())
    (host.bin / "uv").write_text(f"#!/bin/sh\necho uv {host.version}\n", encoding="utf-8")
    result = host.run(check=True)
    assert result["needed"]
    assert "not the one that was brought from here" in result["diff"][0]["after"]


def test_running_uv_goes_on_while_it_is_replaced(host: Host) -> None:
    host.run(**host.send())
    inode = (host.bin / "uv").stat().st_ino
    with (host.bin / "uv").open("rb"):
        (host.folder / "state" / "uv.json").unlink()
        assert host.run(**host.send())["changed"]
        assert (host.bin / "uv").stat().st_ino != inode


@pytest.mark.parametrize("script", ["#!/bin/sh\necho uv 0.0.1\n", "#!/bin/sh\nexit 126\n", "not a program"])
def test_uv_that_is_not_what_was_asked_for_replaces_nothing(host: Host, script: str) -> None:
    host.run(**host.send())
    result = host.run(version="99.0", **host.send(script))
    assert result["reason"] == "uv_broken"
    assert subprocess.check_output([host.bin / "uv", "--version"], text=True).startswith(f"uv {host.version}")
    assert sorted(path.name for path in host.bin.iterdir()) == ["uv"]


def test_damaged_upload_replaces_nothing(host: Host) -> None:
    result = host.run(**host.send(digest="0" * 64))
    assert result["reason"] == "upload_damaged"
    assert not (host.bin / "uv").exists()


def test_configuration_that_uv_refuses_never_lands(host: Host) -> None:
    host.run(config_text=CONFIG, **host.send())
    for check in (True, False):
        result = host.run(check=check, config_text=uv_config.MARKER + "\nnonsense = 1\n")
        assert result["reason"] == "config_invalid"
        assert "unknown field `nonsense`" in result["msg"]
        assert str(host.config) in result["msg"]
    assert host.config.read_text(encoding="utf-8") == CONFIG


def test_configuration_of_somebody_else_is_left_alone(host: Host) -> None:
    host.run(**host.send())
    host.config.parent.mkdir(parents=True)
    host.config.write_text("offline = false\n", encoding="utf-8")
    assert host.run(config_text="")["changed"] is False
    assert host.run(config_text=CONFIG)["reason"] == "config_not_ours"
    assert host.config.read_text(encoding="utf-8") == "offline = false\n"
    assert host.run(config_text=CONFIG, force=True)["config"] == "changed"
    assert host.run(config_text="")["config"] == "removed"
    assert not host.config.exists()
