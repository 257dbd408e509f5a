# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings uv's binaries to the controller once per version and machine, so that hosts need neither pip nor the index for them."""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ansible.module_utils.urls import open_url

from ansible_collections.pyfleet.runtime.plugins.module_utils.environment import scrub

PROGRAMS = ("uv", "uvx")
MACHINES = ("x86_64", "aarch64")
# What would send the controller's own pip or uv elsewhere than into the target directory.
DROPPED = frozenset(
    {
        *("UV_PROJECT_ENVIRONMENT", "VIRTUAL_ENV", "UV_PROJECT", "UV_SYSTEM_PYTHON", "UV_EXCLUDE_NEWER"),
        *("PIP_TARGET", "PIP_PREFIX"),
    }
)


class FetchError(Exception):
    """uv could not be brought to the controller: what, the rule and the next step, as text."""

    def __init__(self, what: str, rule: str, next_step: str, words: str = "") -> None:
        body = "\n" + "\n".join("  " + line for line in words.strip().splitlines()[-20:]) if words.strip() else ""
        super().__init__(f"{what}{body}\nRule:      {rule}\nNext step: {next_step}")


@dataclass(frozen=True)
class Source:
    """Where uv comes from. `checksum` is the sha256 of the wheel or archive in hexadecimal, or empty."""

    kind: str
    version: str
    checksum: str = ""
    url: str = ""
    file: str = ""
    index_url: str = ""

    def identity(self, digest: str = "") -> str:
        """What a host remembers about the uv it has. `digest` stands in for a file's own checksum."""
        return f"{self.kind}:{self.version}:{self.checksum or digest}"


@dataclass(frozen=True)
class Fetched:
    """An archive with uv's programs in the controller's cache, and the sha256 of each program."""

    archive: Path
    programs: Mapping[str, str]


def normal_checksum(text: str) -> str:
    """A checksum as 64 hexadecimal digits. Raises FetchError for anything else."""
    digits = text.strip().lower()
    digits = digits.removeprefix("sha256:")
    if len(digits) == 64 and all(digit in "0123456789abcdef" for digit in digits):
        return digits
    raise FetchError(
        f"uv_checksum is not a sha256 checksum: {text}",
        "a checksum is 64 hexadecimal digits, with or without sha256: before them",
        "Take it from the place uv comes from (sha256sum FILE).",
    )


def file_checksum(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for chunk in iter(lambda: stream.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()


def default_cache() -> Path:
    """Where the controller keeps what it fetched."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pyfleet" / "uv"


def fetch(source: Source, machine: str, cache: Path) -> Fetched:
    """Returns the archive for one machine, from the cache when it is there. Raises FetchError."""
    identity = source.identity(file_checksum(Path(source.file)) if source.kind == "file" else "")
    key = hashlib.sha256(f"{identity}:{source.index_url}:{source.url}".encode()).hexdigest()[:12]
    archive = cache / f"uv-{source.version}-{machine}-{key}.tar.gz"
    manifest = archive.with_suffix(".json")
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(cache / f".{archive.name}.lock"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            known = json.loads(manifest.read_text(encoding="utf-8"))
            if known["archive"] == file_checksum(archive):
                return Fetched(archive, known["programs"])
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            programs = _bring(source, machine, Path(folder))
            digests = {name: hashlib.sha256(content).hexdigest() for name, content in programs.items()}
            staged = Path(folder) / "archive"
            _pack(programs, staged)
            staged.replace(archive)
        manifest.write_text(json.dumps({"archive": file_checksum(archive), "programs": digests}), encoding="utf-8")
    return Fetched(archive, digests)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time: many hosts ask for the same file at once."""
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _bring(source: Source, machine: str, folder: Path) -> dict[str, bytes]:
    """The programs' contents, by name."""
    if source.kind == "wheel":
        return _from_index(source, machine, folder)
    if source.kind == "file":
        content = Path(source.file).read_bytes()
    else:
        try:
            content = open_url(source.url, timeout=300).read()
        except Exception as error:
            raise FetchError(
                f"uv {source.version} could not be fetched from uv_url: {scrub(str(error), ())}",
                "uv_source: url takes uv from uv_url, from the controller",
                "Check uv_url, proxy and certificates on the controller.",
            ) from error
    _check(hashlib.sha256(content).hexdigest(), source)
    return _unpack(content, source)


def _check(digest: str, source: Source) -> None:
    if source.checksum and digest != source.checksum:
        raise FetchError(
            f"What came as uv {source.version} has the checksum {digest}, not {source.checksum}.",
            "uv is pinned by version and checksum",
            "Find out why it differs; only then change uv_checksum.",
        )


def _unpack(content: bytes, source: Source) -> dict[str, bytes]:
    """uv's programs out of a wheel, a release archive or a bare binary."""
    found: dict[str, bytes] = {}
    if content[:4] == b"\x7fELF":
        found["uv"] = content
    elif content[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(content)) as wheel:
            for name in wheel.namelist():
                if name.rsplit("/", 1)[-1] in PROGRAMS:
                    found[name.rsplit("/", 1)[-1]] = wheel.read(name)
    else:
        with contextlib.suppress(tarfile.TarError, EOFError), tarfile.open(fileobj=io.BytesIO(content)) as tar:
            for item in tar:
                stream = tar.extractfile(item) if item.isfile() else None
                if stream is not None and item.name.rsplit("/", 1)[-1] in PROGRAMS:
                    found[item.name.rsplit("/", 1)[-1]] = stream.read()
    if "uv" not in found:
        raise FetchError(
            "There is no uv in what uv_url or uv_file names.",
            f"uv_source: {source.kind} takes a wheel, a release archive (.tar.gz) or the binary itself",
            "Name one of these.",
        )
    return found


def _from_index(source: Source, machine: str, folder: Path) -> dict[str, bytes]:
    """Lets the controller's own uv or pip fetch the wheel: both know its index, its certificates and its credentials."""
    if machine not in MACHINES:
        raise FetchError(
            f"No wheel of uv is known for a machine of the kind {machine}.",
            "uv_source: wheel serves " + " and ".join(MACHINES),
            "Set uv_source: url or file for this host, with uv_checksum.",
        )
    environment = {name: value for name, value in os.environ.items() if name not in DROPPED}
    if source.index_url:
        environment.update(UV_DEFAULT_INDEX=source.index_url, PIP_INDEX_URL=source.index_url)
    requirements = folder / "requirements.txt"
    pin = f"uv=={source.version}" + (f" --hash=sha256:{source.checksum}" if source.checksum else "")
    requirements.write_text(pin + "\n", encoding="utf-8")
    target = folder / "target"
    words = []
    for command in _commands(machine, requirements, target, bool(source.checksum)):
        shutil.rmtree(target, ignore_errors=True)
        done = subprocess.run(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            for wheel in target.glob("*.whl"):
                _check(file_checksum(wheel), source)
                return _unpack(wheel.read_bytes(), source)
            return {
                name: (target / "bin" / name).read_bytes() for name in PROGRAMS if (target / "bin" / name).is_file()
            }
        words.append(
            scrub(f"{' '.join(command[:4])} …:\n{done.stderr.strip() or done.stdout.strip()}", [source.index_url])
        )
    raise FetchError(
        f"uv {source.version} for {machine} could not be fetched from the Python index."
        if words
        else "The controller has neither uv nor pip to fetch uv from the Python index.",
        "uv_source: wheel fetches the wheel once on the controller, with its uv or pip, checked against uv_checksum",
        "Check the index and certificates of the controller (uv_index_url), install uv or pip there, or set uv_source: url or file.",
        "\n".join(words),
    )


def _commands(machine: str, requirements: Path, target: Path, hashed: bool) -> list[list[str]]:
    """The ways to fetch the wheel that this controller has, best first."""
    beside = str(Path(sys.executable).parent)
    program = shutil.which("uv", path=os.pathsep.join([beside, os.environ.get("PATH", "")]))
    hashes = ["--require-hashes"] if hashed else []
    commands = []
    if program:
        commands.append(
            [program, "pip", "install", "--quiet", "--no-deps", *hashes, "--only-binary", ":all:", "--python", sys.executable,
             "--python-platform", f"{machine}-manylinux2014", "--target", str(target), "--requirements", str(requirements)]
        )  # fmt: skip
    for python in dict.fromkeys([sys.executable, shutil.which("python3") or sys.executable]):
        probe = subprocess.run(
            [python, "-m", "pip", "--version"], stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        if probe.returncode == 0:
            commands.append(
                [python, "-m", "pip", "download", "--quiet", "--no-deps", *hashes, "--only-binary=:all:", "--platform",
                 f"manylinux_2_17_{machine}", "--platform", f"manylinux2014_{machine}", "--dest", str(target),
                 "--requirement", str(requirements)]
            )  # fmt: skip
    return commands


def _pack(programs: Mapping[str, bytes], path: Path) -> None:
    """Writes the programs as one compressed archive; the same programs give the same bytes."""
    with path.open("wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=6, mtime=0) as packed:
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for name in sorted(programs):
                item = tarfile.TarInfo(name)
                item.size, item.mode = len(programs[name]), 0o755
                tar.addfile(item, io.BytesIO(programs[name]))
