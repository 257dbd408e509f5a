# Copyright: pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Resolves an application's source on the controller into one content-addressed archive.

A directory, a git reference or an archive all end as the same thing: a gzip'd tar file named after the digest of what is in
it. The plan is therefore complete before any host is touched, hosts need neither git nor credentials, and a fleet costs the
git server one fetch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import gzip
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath

from ansible.module_utils.urls import open_url

from ansible_collections.pyfleet.runtime.plugins.module_utils import lock
from ansible_collections.pyfleet.runtime.plugins.module_utils.findings import Finding, finding
from ansible_collections.pyfleet.runtime.plugins.module_utils.lock import read_packages
from ansible_collections.pyfleet.runtime.plugins.module_utils.requirements import included

KINDS = ("path", "git", "archive")
OPTIONS = {
    "path": {"path", "exclude"},
    "git": {"git", "version", "exclude"},
    "archive": {"archive", "checksum", "exclude"},
}
#: Files whose text the plan reads, wherever they lie in the source.
TEXT_FILES = ("pyproject.toml", "uv.toml", ".python-version", "clevercloud/varnish.vcl", "clevercloud/http.json")
#: Requirements files by the names that people give them; what they name with -r and -c is read as well.
REQUIREMENTS_FILES = re.compile(
    r"(?:.*/)?(?:[^/]*requirements[^/]*\.(?:txt|in|pip)|[^/]*constraints[^/]*\.txt|requirements/[^/]+\.(?:txt|in|pip))\Z",
    re.IGNORECASE,
)
TEXT_LIMIT = 1024 * 1024
#: Never part of a release, whatever the ignore files say: they are made where they are used.
ALWAYS_EXCLUDED = (".git", ".venv", "__pycache__")


class SourceError(Exception):
    """The source cannot be used; carries every finding at once."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__("; ".join(item.message for item in findings))
        self.findings = findings


@dataclasses.dataclass(frozen=True)
class Source:
    """A resolved source. `archive` is a path on the controller, `size` its bytes, `files` relative POSIX paths, `locks`
    the package versions of each uv.lock, `addresses` its registries and the packages whose addresses hold a password."""

    kind: str
    origin: str
    digest: str
    commit: str
    archive: str
    size: int
    files: tuple[str, ...]
    texts: Mapping[str, str]
    locks: Mapping[str, Mapping[str, str]]
    addresses: Mapping[str, list[list[str]]] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """Returns the JSON-able form."""
        return {
            **dataclasses.asdict(self),
            "files": list(self.files),
            "texts": dict(self.texts),
            "locks": dict(self.locks),
            "addresses": dict(self.addresses),
        }


def check(spec: object) -> list[Finding]:
    """Checks the shape of `app_source` and returns all findings; does no I/O."""
    if not isinstance(spec, Mapping):
        return [finding("source_kind", variable="app_source", value=type(spec).__name__)]
    kinds = [kind for kind in KINDS if spec.get(kind)]
    if len(kinds) != 1:
        return [finding("source_kind", variable="app_source", value=", ".join(kinds) or "none of them")]
    findings = []
    unknown = sorted(set(spec) - OPTIONS[kinds[0]])
    if unknown:
        findings.append(finding("source_option", variable=f"app_source.{unknown[0]}", value=str(spec[unknown[0]])))
    checksum = str(spec.get("checksum") or "")
    if kinds[0] == "archive":
        digest = checksum.removeprefix("sha256:")
        if (checksum or _is_url(str(spec["archive"]))) and not (
            checksum.startswith("sha256:") and len(digest) == 64 and set(digest.lower()) <= set("0123456789abcdef")
        ):
            findings.append(finding("source_checksum", variable="app_source.checksum", value=checksum or "not set"))
    return findings


def resolve(spec: Mapping[str, object], *, base: str, cache: str, requirements: Collection[str] = ()) -> Source:
    """Resolves `spec` into an archive below `cache`; relative paths are taken from `base`.

    `requirements` are paths of further requirements files, whatever they are called, whose text the plan reads; other texts that the
    application names are read in the same way.

    The result is kept for the rest of the run: hosts with the same source share it, and only the first one pays.

    Raises:
        SourceError: the source is missing, cannot be fetched, fails its checksum or leaves its own tree.
    """
    findings = check(spec)
    if findings:
        raise SourceError(findings)
    key = hashlib.sha256(
        json.dumps([spec, base, sorted(requirements)], sort_keys=True, default=str).encode()
    ).hexdigest()[:24]
    folder = Path(cache)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    memo = folder / f"{key}.json"
    with exclusively(folder / f"{key}.lock"):
        if memo.exists():
            stored = json.loads(memo.read_text())
            return Source(**{**stored, "files": tuple(stored["files"])})
        source = _resolve(spec, Path(base), folder, requirements)
        memo.write_text(json.dumps(source.to_dict()))
        return source


def _resolve(spec: Mapping[str, object], base: Path, folder: Path, wanted: Collection[str]) -> Source:
    exclude = [str(pattern) for pattern in _sequence(spec.get("exclude"))]
    if spec.get("path"):
        root = _absolute(base, str(spec["path"]))
        if not root.is_dir():
            raise SourceError([finding("source_missing", variable="app_source.path", value=str(spec["path"]))])
        return _pack("path", str(spec["path"]), root, _tracked(root, exclude), _commit_of(root), folder, wanted)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        if spec.get("git"):
            root, commit = _checkout(str(spec["git"]), str(spec.get("version") or "HEAD"), Path(scratch) / "tree", base)
            origin = _without_credentials(str(spec["git"]))
            return _pack("git", origin, root, _tracked(root, exclude), commit, folder, wanted)
        root, digest = _unpack(spec, base, Path(scratch))
        return _pack("archive", str(spec["archive"]), root, _tracked(root, exclude), digest, folder, wanted)


# --- which files --------------------------------------------------------------------------------------------------------


def _git(*arguments: str, cwd: Path | None = None, timeout: int = 600) -> subprocess.CompletedProcess[bytes]:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name in _GIT_KEPT
    }
    environment.update({"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"})
    command = ["git", "-c", "safe.directory=*", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, timeout=timeout, check=False)


#: What people configure git with for access; anything else (GIT_DIR of a hook, say) would point git elsewhere.
_GIT_KEPT = {"GIT_SSH", "GIT_SSH_COMMAND", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "GIT_ASKPASS", "GIT_PROXY_COMMAND"}


def _tracked(root: Path, exclude: list[str]) -> list[str]:
    """Lists what belongs to the application: git itself reads the ignore files, also where there is no repository."""
    patterns = [f"--exclude={pattern}" for pattern in exclude]
    # A folder that the repository around it ignores (build output, say) stands for itself.
    inside = (
        _git("rev-parse", "--is-inside-work-tree", cwd=root).returncode == 0
        and _git("check-ignore", "--quiet", ".", cwd=root).returncode != 0
    )
    if inside:
        listing = _git("ls-files", "-z", "--cached", "--others", "--exclude-standard", *patterns, cwd=root)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            _git("init", "--quiet", "--bare", scratch)
            where = (f"--git-dir={scratch}", f"--work-tree={root}")
            listing = _git(*where, "ls-files", "-z", "--others", "--exclude-standard", *patterns, cwd=root)
    if listing.returncode != 0:
        words = listing.stderr.decode(errors="replace").strip()
        raise SourceError([finding("source_unreadable", variable="app_source", value=str(root), detail=words)])
    names: set[str] = set()
    for name in os.fsdecode(listing.stdout).split("\0"):
        if not name or any(part in ALWAYS_EXCLUDED for part in PurePosixPath(name).parts):
            continue
        path = root / name
        if path.is_dir() and not path.is_symlink():  # a submodule or a repository inside the tree
            prefix = name.rstrip("/")
            names.update(f"{prefix}/{inner}" for inner in _tracked(path, exclude))
        elif path.is_symlink() or path.exists():  # git also lists what was deleted and not yet committed
            names.add(name)
    if exclude and inside:  # --exclude does not apply to files that git tracks
        dropped = _git("ls-files", "-z", "--cached", "--ignored", *patterns, cwd=root)
        names -= set(os.fsdecode(dropped.stdout).split("\0"))
    return sorted(names)


def _commit_of(root: Path) -> str:
    """Returns the last commit that touched the folder, or an empty text: not git, never committed, or changed since."""
    last = _git("log", "-1", "--format=%H", "--", ".", cwd=root)
    dirty = _git("status", "--porcelain", "--", ".", cwd=root)
    if last.returncode != 0 or dirty.returncode != 0 or dirty.stdout.strip():
        return ""
    return last.stdout.decode().strip()


# --- where it comes from ------------------------------------------------------------------------------------------------


def _checkout(url: str, version: str, target: Path, base: Path) -> tuple[Path, str]:
    if "://" not in url and ":" not in url.split("/", maxsplit=1)[0]:
        url = str(_absolute(base, url))

    def run(*arguments: str) -> bytes:
        result = _git(*arguments, cwd=target)
        if result.returncode != 0:
            words = result.stderr.decode(errors="replace").replace(url, _without_credentials(url)).strip()
            shown = f"{_without_credentials(url)} at {version}"
            raise SourceError([finding("source_git", variable="app_source.git", value=shown, detail=words)])
        return result.stdout

    target.mkdir()
    run("init", "--quiet")
    fetched = _git("fetch", "--quiet", "--depth=1", "--end-of-options", url, version, cwd=target)
    if fetched.returncode == 0:
        run("checkout", "--quiet", "--detach", "FETCH_HEAD")
    else:  # servers may refuse a bare commit id: then everything is fetched and the id looked up
        run("fetch", "--quiet", "--tags", "--end-of-options", url, "+refs/heads/*:refs/remotes/origin/*")
        run("checkout", "--quiet", "--detach", version)
    if (target / ".gitmodules").exists():
        run("remote", "add", "origin", url)  # relative submodule addresses are relative to it
        run("submodule", "update", "--quiet", "--init", "--recursive", "--depth=1")
    return target, run("rev-parse", "HEAD").decode().strip()


def _unpack(spec: Mapping[str, object], base: Path, scratch: Path) -> tuple[Path, str]:
    origin = str(spec["archive"])
    if _is_url(origin):
        local = scratch / "download"
        try:
            with contextlib.closing(open_url(origin, timeout=60)) as answer, local.open("wb") as file:
                shutil.copyfileobj(answer, file)
        except (OSError, ValueError) as error:
            problem = finding("source_download", variable="app_source.archive", value=origin, detail=str(error))
            raise SourceError([problem]) from error
    else:
        local = _absolute(base, origin)
        if not local.is_file():
            raise SourceError([finding("source_missing", variable="app_source.archive", value=origin)])
    digest = _file_digest(local)
    wanted = str(spec.get("checksum") or "").removeprefix("sha256:").lower()
    if wanted and wanted != digest:
        detail = f"the archive's sha256 is {digest}"
        problem = finding("source_mismatch", variable="app_source.checksum", value=f"sha256:{wanted}", detail=detail)
        raise SourceError([problem])
    target = scratch / "tree"
    target.mkdir()
    try:
        if zipfile.is_zipfile(local):
            _extract_zip(local, target)
        else:
            _extract_tar(local, target)
    except (tarfile.TarError, zipfile.BadZipFile, OSError, ValueError) as error:
        problem = finding("source_unreadable", variable="app_source.archive", value=origin, detail=str(error))
        raise SourceError([problem]) from error
    entries = list(target.iterdir())
    # The usual archive holds one folder named after project and version: that folder is the source.
    if len(entries) == 1 and entries[0].is_dir() and not entries[0].is_symlink():
        target = entries[0]
    return target, digest


def _extract_tar(archive: Path, target: Path) -> None:
    with tarfile.open(archive) as file:
        for member in file.getmembers():
            if not (member.isfile() or member.isdir() or member.issym()):
                raise ValueError(f"{member.name}: neither a file, a folder nor a symbolic link")
            _refuse_escape(member.name, member.linkname if member.issym() else "")
            member.uid, member.gid, member.uname, member.gname = os.getuid(), os.getgid(), "", ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            file.extract(member, target)


def _extract_zip(archive: Path, target: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            mode = info.external_attr >> 16
            if stat.S_ISLNK(mode):
                link = file.read(info).decode()
                _refuse_escape(info.filename, link)
                (target / info.filename).parent.mkdir(parents=True, exist_ok=True)
                (target / info.filename).symlink_to(link)
                continue
            _refuse_escape(info.filename, "")
            written = Path(file.extract(info, target))
            if written.is_file() and mode & 0o100:
                written.chmod(0o755)


def _refuse_escape(name: str, link: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{name}: leaves the archive")
    if link and _leaves(path, link):
        raise ValueError(f"{name} -> {link}: leads out of the archive")


def _leaves(path: PurePosixPath, link: str) -> bool:
    if PurePosixPath(link).is_absolute():
        return True
    return os.path.normpath(str(path.parent / link)).split("/")[0] == ".."


# --- the archive --------------------------------------------------------------------------------------------------------


def _pack(
    kind: str, origin: str, root: Path, names: list[str], commit: str, folder: Path, wanted: Collection[str]
) -> Source:
    """Writes the archive. The digest covers names, modes and contents; times are kept, since servers derive ETags of them."""
    escaping = [
        f"{name} -> {os.readlink(root / name)}"
        for name in names
        if (root / name).is_symlink() and _leaves(PurePosixPath(name), os.readlink(root / name))
    ]
    if escaping:
        raise SourceError([finding("source_link", variable="app_source", value=link) for link in escaping])
    if not names:
        raise SourceError([finding("source_empty", variable="app_source", value=origin)])
    digest = hashlib.sha256()
    scratch = folder / f"pack-{os.getpid()}.tar.gz"
    with scratch.open("wb") as raw, gzip.GzipFile("", "wb", 3, raw, mtime=0) as packed:
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for name in names:
                path = root / name
                info = tar.gettarinfo(path, name)
                info.uid = info.gid = 0
                info.uname = info.gname = ""
                info.mode = 0o755 if info.mode & 0o100 else 0o644
                if info.islnk():  # a hard link inside the tree travels as the file it is
                    info.type, info.linkname, info.size = tarfile.REGTYPE, "", path.stat().st_size
                digest.update(f"{name}\0{info.mode:o}\0{info.linkname}\0".encode(errors="surrogateescape"))
                if info.isreg():
                    content = path.read_bytes()
                    info.size = len(content)
                    digest.update(hashlib.sha256(content).digest())
                    with path.open("rb") as file:
                        tar.addfile(info, file)
                elif info.issym():
                    tar.addfile(info)
                else:
                    raise SourceError([finding("source_special", variable="app_source", value=name)])
    archive = folder / f"{digest.hexdigest()}.tar.gz"
    scratch.replace(archive)
    locks = [name for name in names if PurePosixPath(name).name == "uv.lock" and (root / name).is_file()]
    addresses = {name: lock.addresses((root / name).read_text(encoding="utf-8", errors="replace")) for name in locks}
    return Source(
        kind=kind,
        origin=origin,
        digest=digest.hexdigest(),
        commit=commit or digest.hexdigest()[:40],
        archive=str(archive),
        size=archive.stat().st_size,
        files=tuple(os.fsencode(name).decode(errors="replace") for name in names),
        texts=_texts(root, names, wanted),
        locks={name: read_packages(str(root / name)) for name in names if PurePosixPath(name).name == "uv.lock"},
        addresses=addresses,
    )


def _texts(root: Path, names: list[str], wanted: Collection[str]) -> dict[str, str]:
    """The files that the plan reads, with those that requirements files name."""
    present = set(names)
    texts: dict[str, str] = {}
    plain = [name for name in names if _ends(name, TEXT_FILES)]
    required = [name for name in names if REQUIREMENTS_FILES.match(name) or _ends(name, wanted)]
    for name in plain:
        if (root / name).is_file():
            texts[name] = _text(root / name)
    while required:
        name = required.pop()
        if name in present and name not in texts and (root / name).is_file():
            texts[name] = _text(root / name)
            required += included(texts[name], name)
    return texts


def _ends(name: str, wanted: Collection[str]) -> bool:
    return any(name == other or name.endswith(f"/{other}") for other in wanted)


def _text(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(TEXT_LIMIT + 1)
    if len(content) > TEXT_LIMIT:  # whole lines only: half a line would be read as what it is not
        content = content[: content.rfind(b"\n", 0, TEXT_LIMIT) + 1]
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):  # as PowerShell's redirection writes it
        return content.decode("utf-16", errors="replace")
    return content.decode(errors="replace")


def _file_digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1024 * 1024):
            digest.update(chunk)
    return digest.hexdigest()


def _absolute(base: Path, path: str) -> Path:
    return Path(os.path.normpath(base / Path(path).expanduser()))


def _is_url(text: str) -> bool:
    return text.startswith(("http://", "https://", "file://"))


def _without_credentials(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}" if separator else url


def _sequence(value: object) -> list[object]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


@contextlib.contextmanager
def exclusively(path: str | Path) -> Iterator[None]:
    """Lets one process at a time in: the hosts of a run work in forks."""
    with open(path, "w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
