# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""H4 where no host is needed: what a server may ask for, who has its port, which application gives a kernel, and the module around it."""

from __future__ import annotations

import dataclasses
import grp
import json
import os
import pwd
import stat
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.plugins.module_utils import notebook, process
from ansible_collections.pyfleet.runtime.plugins.module_utils.findings import SECRET, Finding
from ansible_collections.pyfleet.runtime.plugins.module_utils.sockets import Listener
from ansible_collections.pyfleet.runtime.plugins.modules import notebook as module
from ansible_collections.pyfleet.runtime.tests.unit.uv.modules import run_module

pytestmark = pytest.mark.rule("H4")

TOKEN = "t0ken-of-the-test"
GOOD = notebook.Wanted(
    name="main",
    kind="jupyter",
    address="127.0.0.1",
    port=8888,
    base_url="/",
    directory="/srv/notebooks/main",
    token=TOKEN,
    arguments=("--ServerApp.allow_remote_access=True",),
    kernels=("shop",),
    app_root="/srv/pyfleet",
)


def codes(**changes: Any) -> list[str]:
    """The problems of a good server with something changed."""
    return [each.code for each in notebook.problems(dataclasses.replace(GOOD, **changes))]


# -- variables ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "good", "bad"),
    [
        ("name", ["a", "research-2", "a" * 22], ["", "Main", "2a", "a_b", "a/b", "a" * 23, "main\n"]),
        ("address", ["0.0.0.0", "::1", "192.0.2.7"], ["", "localhost", "127.0.0.1:8888", "*"]),
        ("port", [1024, 65535], [0, 1023, 65536]),
        ("base_url", ["/", "/a/", "/a/b", "/~me/x.y-z_"], ["", "a", "//", "/a//b", "/a b", "/%41", "/a?b", "/$HOME", "/\n"]),
        ("directory", ["/srv/work", "/data/a.b/c-d_e", "/srv/pyfleet-notebooks"], [
            "", "work", "/srv", "/srv/../etc/x", "/srv/a/", "/home/me/work", "/tmp/x", "/etc/x", "/srv/pyfleet/shop/home",
            "/srv/pyfleet", "/var/lib/pyfleet-notebooks/main", "/srv/a b", "/srv/%i", "/srv/a\n",
        ]),
        ("token", ["", "a" * 16, "A.b_c~d-0123456789"], ["a" * 15, "a" * 16 + "\n", "with a space in it", "umlaut-ä-umlaut-ä"]),
        ("arguments", [(), ("--x=1", "--log-level=10")], [("--IdentityProvider.token=x",), ("--token-password", "x"), ("--PASSWORD=x",)]),
    ],
)  # fmt: skip
def test_h4_variables_have_bounds(variable: str, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        assert codes(**{variable: value}) == [], value
    code = {"arguments": "notebook_argument"}.get(variable, f"notebook_{variable}")
    for value in bad:
        assert codes(**{variable: value}) == [code], value


def test_h4_all_that_is_wrong_is_told_at_once() -> None:
    wrong = {
        "name": "X",
        "address": "x",
        "port": 1,
        "base_url": "x",
        "directory": "x",
        "token": "x",
        "arguments": ("--token=y",),
    }
    assert len(codes(**wrong, kind="marimo")) == 8


def test_h4_no_message_holds_a_token() -> None:
    wrong = dataclasses.replace(GOOD, token="s3cret", arguments=("--token=s3cret",))
    found = notebook.problems(wrong)
    assert [each.value for each in found] == [SECRET, "--token"]
    assert "s3cret" not in "".join(each.render() for each in found)


def test_h4_marimo_has_no_kernels() -> None:
    assert codes(kind="marimo") == ["notebook_kernels"]
    assert codes(kind="marimo", kernels=()) == []


# -- the port ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listeners", "claims", "code"),
    [
        ([], {}, ""),
        ([Listener(8888, "127.0.0.1", 7, "python", (7, 8))], {}, "notebook_port_taken"),
        ([Listener(8888, "127.0.0.1", 7, "jupyter-lab", (7, 41))], {}, ""),
        ([Listener(8889, "127.0.0.1", 7, "python", (7,))], {}, ""),
        # /proc does not say whose it is: no reason to refuse
        ([Listener(8888, "0.0.0.0")], {}, ""),
        # an application's port, whether something listens or not, and whoever it is
        ([], {"shop": {8080, 8888}}, "notebook_port_claimed"),
        ([Listener(8888, "127.0.0.1", 41, "jupyter-lab", (41,))], {"shop": {8888}}, "notebook_port_claimed"),
        ([], {"shop": {8080}}, ""),
    ],
)
def test_h4_who_has_the_port(listeners: list[Listener], claims: dict[str, set[int]], code: str) -> None:
    found = notebook.port_problems(8888, listeners, [41, 42], claims)
    assert [each.code for each in found] == ([code] if code else [])


# -- kernels -----------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Host:
    """A host's folders with the application `shop`, and what was run there."""

    root: Path
    settings: Path
    ran: list[tuple[list[str], dict[str, str], process.Account]] = dataclasses.field(default_factory=list)
    status: int = 0

    def release(self, app: str = "shop", release: str = "r1", project_root: str = "", ipykernel: bool = True) -> Path:
        """Makes a release that serves; returns its environment."""
        venv = self.root / app / "releases" / release / project_root / ".venv"
        (venv / "lib/python3.13/site-packages" / ("ipykernel" if ipykernel else "other")).mkdir(parents=True)
        link = self.root / app / "current"
        link.unlink(missing_ok=True)
        link.symlink_to(f"releases/{release}")
        described = self.settings / app / release
        described.mkdir(parents=True)
        facts = {
            "release": release,
            "app": app,
            "mode": "uv",
            "commit": "",
            "user": f"app-{app}",
            "switch": "side_by_side",
        }
        ports = {"public_port": 8080, "candidates": [18080, 28080], "project_root": project_root}
        (described / "release.json").write_text(json.dumps({**facts, **ports}))
        return venv

    def run(self, argv: Sequence[str], environment: Mapping[str, str], account: process.Account) -> process.Completed:
        self.ran.append((list(argv), dict(environment), account))
        return process.Completed("", self.status, "", "Traceback\nPermissionError: no", 0.0)

    def look(self, app: str = "shop") -> notebook.Kernel | Finding:
        return notebook.look(app, str(self.root), self.run, str(self.settings))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "srv", tmp_path / "etc")


def test_h4_a_kernel_is_tried_as_somebody_who_is_only_in_the_group(host: Host) -> None:
    venv = host.release(project_root="backend")
    gid = host.root.stat().st_gid
    group = grp.getgrgid(gid).gr_name
    assert host.look() == notebook.Kernel("shop", str(host.root / "shop"), "backend", group)
    ((argv, environment, account),) = host.ran
    assert argv[0] == str(venv / "bin/python")
    assert (account.uid, account.gid, account.groups) == (65534, gid, (gid,))
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"


def test_h4_why_an_application_gives_no_kernel(host: Host) -> None:
    host.release("other", ipykernel=False)
    found = [host.look(name) for name in ("shop", "./other", "", "other")]
    host.release()
    host.status = 1
    found.append(host.look())
    assert all(isinstance(each, Finding) for each in found)
    assert [each.code for each in found if isinstance(each, Finding)] == [
        *["notebook_kernel_app"] * 3, "notebook_kernel_ipykernel", "notebook_kernel_refused",
    ]  # fmt: skip
    assert "there are: other" in found[0].message  # type: ignore[union-attr]
    assert "PermissionError: no" in found[-1].message  # type: ignore[union-attr]


def test_h4_an_application_without_description_gives_none(host: Host) -> None:
    host.release()
    next(host.settings.rglob("release.json")).unlink()
    assert isinstance(host.look(), Finding)


def test_h4_every_port_of_every_application_is_claimed(host: Host) -> None:
    host.release()
    host.release("other")
    assert notebook.claims(str(host.root), str(host.settings)) == {
        "other": {8080, 18080, 28080},
        "shop": {8080, 18080, 28080},
    }


def test_h4_what_jupyter_reads_of_a_kernel() -> None:
    (file,) = GOOD.kernel_files([notebook.Kernel("shop", "/srv/pyfleet/shop", "backend", "app-shop")])
    assert file["path"] == "/etc/pyfleet-notebooks/main/jupyter/kernels/shop/kernel.json"
    spec = json.loads(file["content"])
    assert spec["argv"] == [
        "/etc/pyfleet-notebooks/main/kernel", "/srv/pyfleet/shop", "backend", "-f", "{connection_file}",
    ]  # fmt: skip
    assert (spec["display_name"], spec["language"]) == ("shop", "python")


# -- the module --------------------------------------------------------------------------------------------------------------


class FakeSystemd:
    """A systemd that knows one running unit."""

    calls: list[tuple[str, str]] = []  # noqa: RUF012
    started = ""  # as systemd says it, microseconds since the boot; nothing while the unit does not run

    def processes(self, _unit: str) -> list[int]:
        return []

    def state(self, _unit: str) -> dict[str, str]:
        return {"LoadState": "loaded", "ActiveState": "active"}

    def show(self, units: list[str], properties: tuple[str, ...]) -> dict[str, dict[str, str]]:
        shown = {
            "ActiveState": "active" if self.started else "inactive",
            "ExecMainStartTimestampMonotonic": self.started or "0",
        }
        return {unit: {name: shown[name] for name in properties} for unit in units}

    def __getattr__(self, name: str) -> Any:
        return lambda unit, **_more: self.calls.append((name, unit))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host's folders below a temporary one; making an account makes this user's."""
    made: list[str] = []
    me = pwd.getpwuid(os.getuid())

    def find(name: str) -> Any:
        if name not in made:
            raise KeyError(name)
        return me

    def run(argv: list[str], **_more: Any) -> subprocess.CompletedProcess[str]:
        assert argv[0] == "useradd"
        made.append(argv[-1])
        return subprocess.CompletedProcess(argv, 0, "", "")

    for name in ("SETTINGS", "HOMES", "TOOLS", "CACHES"):
        monkeypatch.setattr(notebook, name, str(tmp_path / name.lower()))
    monkeypatch.setattr(notebook, "NO_WORK", ())
    FakeSystemd.calls = []
    monkeypatch.setattr(FakeSystemd, "started", "")
    monkeypatch.setattr(module, "UNITS", str(tmp_path))
    monkeypatch.setattr(module, "Systemd", FakeSystemd)
    monkeypatch.setattr(pwd, "getpwnam", find)
    # Files here belong to whoever runs the tests, which is the account once it is made.
    monkeypatch.setattr(module, "owner", lambda path: "notebook-main" if Path(path).exists() else None)
    monkeypatch.setattr(subprocess, "run", run)
    return tmp_path


def call(place: Path, **arguments: Any) -> dict[str, Any]:
    """Runs the module."""
    common = {"name": "main", "directory": str(place / "a/work"), "app_root": str(place / "srv")}
    return run_module(module.main, **{**common, **arguments})


def token_of(place: Path) -> str:
    return (place / "settings/main/token").read_text()


def test_h4_a_host_makes_its_token_once_and_keeps_it(place: Path) -> None:
    dry = call(place, check=True, diff=True)
    assert dry["changes"] == ["account notebook-main", f"directory {place}/a/work", "token"]
    assert list(place.iterdir()) == []
    first = call(place, diff=True)
    assert first["changes"] == dry["changes"]
    assert first["diff"] == dry["diff"]
    token = token_of(place)
    assert len(token) >= 40
    assert not token.endswith("\n"), "Jupyter takes the file as it is"
    assert stat.S_IMODE((place / "settings/main/token").stat().st_mode) == 0o600
    assert stat.S_IMODE((place / "a/work").stat().st_mode) == 0o750
    again = call(place, diff=True)
    assert (again["changed"], again["changes"], token_of(place)) == (False, [], token)
    assert token not in first["raw"] + again["raw"]


def test_h4_a_given_token_replaces_the_hosts_and_is_shown_nowhere(place: Path) -> None:
    call(place)
    result = call(place, token=TOKEN, diff=True)
    assert result["changes"] == ["token"]
    assert token_of(place) == TOKEN
    assert TOKEN not in result["raw"]
    assert call(place, token=TOKEN)["changed"] is False
    assert call(place)["changed"] is False, "without one the host's stays"


@pytest.mark.parametrize(
    "late", ["settings/main/token", "notebook-main.service", "tools/main/tools/marimo/uv-receipt.toml"]
)
def test_h4_a_restart_that_an_earlier_run_did_not_come_to_is_made_up_for(
    place: Path, monkeypatch: pytest.MonkeyPatch, late: str
) -> None:
    call(place)
    file = place / late
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    assert (call(place)["stale"], call(place)["changed"]) == (False, False), "nothing runs"
    since = int((time.monotonic() - 100) * 1e6)
    monkeypatch.setattr(FakeSystemd, "started", str(since))
    for check in (True, False):
        result = call(place, check=check)
        assert (result["stale"], result["changed"]) == (True, True)
    for path in (file, place / "settings/main/token"):
        os.utime(path, (time.time() - 110,) * 2)
    assert (call(place)["stale"], call(place)["changed"]) == (False, False), "the server is newer"


def test_h4_bad_input_changes_nothing(place: Path) -> None:
    result = call(place, token="short", kernels=["shop"], port=80)
    assert result["failed"]
    # What the host has to say comes once the variables are in order: a kernel cannot be looked for by a wrong name.
    assert [each["code"] for each in result["findings"]] == ["notebook_port", "notebook_token"]
    assert result["msg"].startswith("2 problems, nothing was changed:")
    # A token that is too short to be one is not scrubbed out of every word.
    assert "The token is too easy to guess, or cannot stand in an address." in call(place, token="e")["msg"]
    result = call(place, kernels=["shop", "shop"])
    assert [each["code"] for each in result["findings"]] == ["notebook_kernel_app"]
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("belongs", "empty", "refused"),
    [("root", True, False), ("root", False, True), ("www-data", True, True), ("notebook-main", False, False)],
)
def test_h4_a_directory_of_somebody_else_stays_theirs(
    place: Path, monkeypatch: pytest.MonkeyPatch, belongs: str, empty: bool, refused: bool
) -> None:
    work = place / "a/work"
    work.mkdir(parents=True)
    if not empty:
        (work / "theirs.ipynb").touch()
    monkeypatch.setattr(module, "owner", lambda _path: belongs)
    result = call(place, check=True)
    assert [each["code"] for each in result.get("findings", [])] == (["notebook_directory_foreign"] if refused else [])


def test_h4_what_goes_and_what_stays(place: Path) -> None:
    call(place)
    (place / "a/work/mine.ipynb").touch()
    (place / "tools/main/bin").mkdir(parents=True)
    dry = call(place, state="absent", check=True)
    assert dry["changes"] == ["running notebook-main.service", f"{place}/settings/main", f"{place}/tools/main"]
    assert FakeSystemd.calls == []
    assert call(place, state="absent")["changes"] == dry["changes"]
    assert FakeSystemd.calls == [(name, "notebook-main.service") for name in ("disable", "stop", "reset_failed")]
    assert sorted(path.name for path in place.rglob("*")) == sorted(["a", "work", "mine.ipynb", "settings", "tools"])


def test_h4_what_is_wrong_elsewhere_does_not_keep_a_server_from_going(place: Path) -> None:
    assert "failed" not in call(place, state="absent", port=1, kernels=["nothing"], token="x")
    assert call(place, state="absent", name="../etc")["findings"][0]["code"] == "notebook_name"
