# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""F8: the VCL of an application, complete from what its author wrote, and what a running Varnish does with it.

The first half is pure. The second half runs `varnishd -C` and `varnishadm`, which the package vinyl-cache brings under the
same names.
"""

from __future__ import annotations

import itertools
import json
import os
import pwd
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ansible_collections.pyfleet.runtime.plugins.module_utils import process

#: Put in on the host, where the slot is known.
FORWARD_PORT = "@FORWARD_PORT@"
DEFAULT_VERSION = "4.1"
VARNISHD = "/usr/sbin/varnishd"
#: Varnish runs what it has compiled, which /tmp of a hardened host forbids.
CACHES = "/var/cache"
VARNISHADM = "/usr/bin/varnishadm"

#: Runs a command; returns its status and what it wrote. Raises process.ProcessError when it cannot be started.
Runner = Callable[[Sequence[str]], "tuple[int, str]"]

_TOKEN = re.compile(
    r"""
    (?P<comment> //[^\n]* | \#[^\n]* | /\*.*?(?:\*/|\Z) )
  | (?P<text> \"\"\".*?(?:\"\"\"|\Z) | \{".*?(?:"\}|\Z) | "[^"\n]*(?:"|$) | C\{.*?(?:\}C|\Z) )
  | (?P<word> [A-Za-z_][A-Za-z0-9_.-]* )
  | (?P<number> [0-9]+(?:\.[0-9]+)* )
  | (?P<other> \S )
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
_PLACE = re.compile(r"\('[^']*' Line (\d+) Pos (\d+)\)")
_NOISE = ("Could not delete ", "Running VCC-compiler failed", "VCL compilation failed", "Message from VCC-compiler:")


@dataclass(frozen=True)
class Declaration:
    """A backend or director that a VCL declares by itself. `line` counts from 1."""

    kind: str
    name: str
    line: int


def _tokens(text: str) -> Iterator[re.Match[str]]:
    """Everything but whitespace and comments; a string is one token."""
    return (match for match in _TOKEN.finditer(text) if match.lastgroup != "comment")


def declarations(text: str) -> list[Declaration]:
    """The backends and directors that a VCL declares, outside of comments, strings and subroutines."""
    found = []
    depth = 0
    statement: list[re.Match[str]] = []
    for token in _tokens(text):
        value = token.group()
        if token.lastgroup == "other" and value in "{}":
            depth += 1 if value == "{" else -1
            statement = []
        elif depth <= 0:
            statement = [] if value == ";" else [*statement, token]
            if len(statement) == 2 and statement[0].group() in ("backend", "director") and token.lastgroup == "word":
                line = text.count("\n", 0, statement[0].start()) + 1
                found.append(Declaration(statement[0].group(), value, line))
    return found


def ends_in_hash(text: str) -> bool:
    """Whether `vcl_recv`, as its author left it, ends in `return (hash);` whatever the request holds.

    The built-in one would let requests with a cookie or a login pass by the cache; this one does not come to it.
    """
    words = [token.group() for token in _tokens(text)]
    ending = False
    depth = 0
    inside = False
    statement: list[str] = []
    for index, word in enumerate(words):
        if word == "{":
            depth += 1
            if depth == 1:
                inside = words[max(index - 2, 0) : index] == ["sub", "vcl_recv"]
            statement = []
        elif word == "}":
            depth -= 1
            statement = []
        elif inside and depth == 1:
            if not statement:
                ending = False
            if word == ";":
                ending = [part for part in statement if part not in "()"] == ["return", "hash"]
                statement = []
            else:
                statement.append(word)
    return ending


def split_version(text: str) -> tuple[str, str]:
    """The version of the `vcl 4.x;` line (4.1 without one), and the text with blanks in place of that line."""
    first = list(itertools.islice(_tokens(text), 3))
    values = [token.group() for token in first]
    if len(first) == 3 and values[0] == "vcl" and first[1].lastgroup == "number" and values[2] == ";":
        start, end = first[0].start(), first[2].end()
        blank = re.sub(r"[^\n]", " ", text[start:end])
        return values[1], text[:start] + blank + text[end:]
    return DEFAULT_VERSION, text


def compose(text: str, first: bool = True) -> str:
    """The complete VCL: version and backend in front of what the author wrote, on its first line.

    So every line keeps its number, and Varnish's messages fit the author's file. A byte order mark is dropped. `first`: the
    hop stands at the public port. Behind another hop, the address that Varnish adds to X-Forwarded-For is this host's and
    goes away again.
    """
    version, rest = split_version(text.lstrip("\ufeff").replace("\r\n", "\n"))
    head = (
        f'vcl {version}; backend default {{ .host = "127.0.0.1"; .port = "{FORWARD_PORT}"; .connect_timeout = 5s; '
        # As long as HAProxy waits, so that the hops agree.
        ".first_byte_timeout = 900s; .between_bytes_timeout = 900s; } "
        # A new connection for every request: the next one goes to the release that serves then.
        'sub vcl_backend_fetch { set bereq.http.Connection = "close"; } '
        # What the author hands to `pipe` is a WebSocket to the end, not only on this side of Varnish. What to hand to it is the author's
        # alone: through a pipe goes everything that the client still sends on its connection, unseen by the VCL.
        'sub vcl_pipe { if (req.http.Upgrade ~ "(?i)^websocket$") { set bereq.http.Upgrade = "websocket"; '
        'set bereq.http.Connection = "Upgrade"; } } '
    )
    if not first:
        head += (
            "sub vcl_recv { if (req.restarts == 0 && req.esi_level == 0) { "
            'set req.http.X-Forwarded-For = regsub(req.http.X-Forwarded-For, "(^|, *)[^,]*$", ""); '
            'if (req.http.X-Forwarded-For == "") { unset req.http.X-Forwarded-For; } } } '
        )
    return head + rest + ("" if rest.endswith("\n") else "\n")


def with_port(vcl: str, port: int) -> str:
    """A complete VCL for one slot."""
    return vcl.replace(FORWARD_PORT, str(port))


# -- with programs ----------------------------------------------------------------------------------------------------------


def run_as(user: str = "") -> Runner:
    """A runner that becomes `user` (none: stays who it is). Without such a user: whoever nobody's number belongs to."""

    def run(argv: Sequence[str]) -> tuple[int, str]:
        account = None
        if user and os.geteuid() == 0:
            entry = pwd.getpwnam(user)
            account = process.Account(entry.pw_name, entry.pw_uid, entry.pw_gid, (), "/")
        environment = {"PATH": process.DEFAULT_PATH, "LANG": "C.UTF-8", "TMPDIR": "/tmp", "HOME": "/"}
        # What `varnishd -C` writes when all is well is the whole program in C: nobody reads it.
        done = process.run(list(argv), cwd="/", environment=environment, account=account, timeout=60.0, merge=True)
        if done.timed_out:
            return 1, f"{done.command} did not end within 60 seconds."
        return done.returncode, done.stdout

    return run


def compile_check(text: str, run: Runner | None = None, program: str = VARNISHD) -> str | None:
    """Why Varnish does not compile a complete VCL, in its words, or None. Lines are those of the author's file.

    Nothing that runs is touched. The compiler is a big program that reads a text from elsewhere: it runs as nobody.
    Raises process.ProcessError when there is no Varnish.
    """
    place = CACHES if os.access(CACHES, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="pyfleet-vcl-", dir=place) as folder:
        path, work = os.path.join(folder, "default.vcl"), os.path.join(folder, "work")
        with open(path, "w", encoding="utf-8", newline="") as stream:
            # The port does not matter here; what is no port would be an error of its own.
            stream.write(with_port(text, 1))
        os.chmod(folder, 0o755)  # noqa: S103 - nobody has to reach the file
        os.chmod(path, 0o644)
        os.mkdir(work)
        os.chmod(work, 0o1777)  # noqa: S103 - the compiler's user is the caller's choice
        code, output = (run or run_as("nobody"))([program, "-C", "-n", os.path.join(work, "varnish"), "-f", path])
    return None if code == 0 else readable(output)


def readable(output: str) -> str:
    """Varnish's words without what says nothing about the VCL: paths of temporary files, its own progress."""
    lines = [line.rstrip() for line in output.splitlines() if not line.startswith(_NOISE)]
    text = _PLACE.sub(r"line \1, position \2", "\n".join(lines)).strip("\n")
    return text or "the compiler failed without a word"


def _admin(instance: str, run: Runner | None, *words: str) -> tuple[int, str]:
    """One command for the Varnish whose working directory is `instance`; port and secret are found there."""
    if run is None and not os.path.exists(os.path.join(instance, "_.pid")):
        return 1, f"no Varnish runs in {instance}"  # varnishadm would wait for one
    return (run or run_as())([VARNISHADM, "-n", instance, "-t", "30", *words])


def load(instance: str, name: str, path: str, run: Runner | None = None) -> str | None:
    """Compiles and loads the VCL at `path` under a name, beside the one that serves. Returns why not, or None."""
    code, output = _admin(instance, run, "vcl.load", name, path)
    return None if code == 0 else readable(output)


def use(instance: str, name: str, run: Runner | None = None) -> str | None:
    """Lets a loaded VCL serve all requests from now on; the cache stays. Returns why not, or None."""
    code, output = _admin(instance, run, "vcl.use", name)
    return None if code == 0 else readable(output)


def loaded(instance: str, run: Runner | None = None) -> dict[str, bool]:
    """The names of all VCLs that a Varnish has, and whether it is the one that serves. Empty when it does not answer."""
    code, output = _admin(instance, run, "vcl.list", "-j")
    if code != 0:
        return {}
    try:
        entries = json.loads(output[output.index("[") :])
    except ValueError:
        return {}
    return {
        str(entry["name"]): entry.get("status") == "active"
        for entry in entries
        if isinstance(entry, dict) and "name" in entry and entry.get("status") != "discarded"
    }


def discard_cold(instance: str, keep: Sequence[str] = (), run: Runner | None = None) -> list[str]:
    """Drops every VCL that neither serves nor is to be kept, and returns their names. Requests that still use one end first."""
    names = [name for name, active in loaded(instance, run).items() if not active and name not in keep]
    return [name for name in names if _admin(instance, run, "vcl.discard", name)[0] == 0]
