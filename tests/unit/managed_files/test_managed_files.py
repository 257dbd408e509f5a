# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module managed_files as a whole: JSON in, JSON and files out."""

from __future__ import annotations

import base64
import io
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import basic

from ansible_collections.pyfleet.runtime.plugins.module_utils import file_set
from ansible_collections.pyfleet.runtime.plugins.module_utils.systemd import Completed
from ansible_collections.pyfleet.runtime.plugins.modules import managed_files

SECRET = "correct-horse-battery"


class Host:
    """Runs the module against a directory; `etc` stands for /etc."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.etc = tmp_path / "etc"
        self.etc.mkdir()
        self.state_dir = tmp_path / "state"
        self.work = tmp_path / "work"
        self.work.mkdir()
        self.monkeypatch = monkeypatch
        self.capsys = capsys
        self.raw = ""

    def path(self, name: str) -> str:
        return str(self.etc / name)

    def file(self, name: str, content: str = "one\n", **more: object) -> dict[str, object]:
        return {"path": self.path(name), "content": content, **more}

    def run(
        self, *files: dict[str, object], check: bool = False, diff: bool = True, **options: object
    ) -> dict[str, Any]:
        arguments = {
            "set": "shop",
            "files": list(files),
            "state_dir": str(self.state_dir),
            "_ansible_check_mode": check,
            "_ansible_diff": diff,
            "_ansible_remote_tmp": str(self.work),
            "_ansible_keep_remote_files": False,
            **options,
        }
        document = json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode()
        self.monkeypatch.setattr(basic, "_ANSIBLE_ARGS", document)
        if hasattr(basic, "_ANSIBLE_PROFILE"):
            self.monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy")
        self.monkeypatch.setattr(sys, "stdin", io.StringIO())
        with pytest.raises(SystemExit) as ended:
            managed_files.main()
        self.raw = self.capsys.readouterr().out
        result: dict[str, Any] = json.loads(self.raw)
        assert bool(result.get("failed")) == (ended.value.code != 0)
        return result

    def actions(self, result: dict[str, Any]) -> dict[str, str]:
        return {os.path.relpath(each["path"], self.etc): each["action"] for each in result["changes"]}

    def tree(self) -> dict[str, str]:
        return {
            str(path.relative_to(self.etc)): path.read_text() for path in sorted(self.etc.rglob("*")) if path.is_file()
        }


@pytest.fixture(name="host")
def _host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Host:
    return Host(tmp_path, monkeypatch, capsys)


def mode_of(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def test_set_lands_and_the_second_run_changes_nothing(host: Host) -> None:
    files = [host.file("a.conf"), host.file("sub/deep/b.conf", "two\n", mode="0640")]
    result = host.run(*files)
    assert result["changed"] is True
    assert host.actions(result) == {"a.conf": "created", "sub/deep/b.conf": "created"}
    assert host.tree() == {"a.conf": "one\n", "sub/deep/b.conf": "two\n"}
    assert (mode_of(host.path("a.conf")), mode_of(host.path("sub/deep/b.conf"))) == (0o644, 0o640)
    again = host.run(*files)
    assert (again["changed"], again["changes"], again["diff"]) == (False, [], [])


def test_set_removes_what_it_no_longer_has_and_the_directories_it_made(host: Host) -> None:
    (host.etc / "mine").mkdir()
    host.run(host.file("a.conf"), host.file("sub/deep/b.conf"), host.file("mine/c.conf"))
    result = host.run(host.file("a.conf"))
    assert host.actions(result) == {"sub/deep/b.conf": "removed", "mine/c.conf": "removed"}
    assert sorted(path.name for path in host.etc.iterdir()) == ["a.conf", "mine"]
    assert host.run(host.file("a.conf"))["changed"] is False


def test_absent_removes_everything_but_edited_files_and_says_so(host: Host) -> None:
    host.run(host.file("a.conf"), host.file("b.conf"))
    (host.etc / "b.conf").write_text("edited\n")
    warnings: list[str] = []
    with host.monkeypatch.context() as patch:
        patch.setattr(basic.AnsibleModule, "warn", lambda self, text: warnings.append(text))
        result = host.run(state="absent")
    assert host.actions(result) == {"a.conf": "removed", "b.conf": "kept"}
    assert host.tree() == {"b.conf": "edited\n"}
    assert host.path("b.conf") in warnings[0]
    assert list(host.state_dir.iterdir()) == []
    assert host.run(state="absent")["changed"] is False


def test_file_of_somebody_else_is_not_overwritten(host: Host) -> None:
    (host.etc / "a.conf").write_text("theirs\n")
    (host.etc / "d.conf").mkdir()
    result = host.run(host.file("a.conf"), host.file("b.conf"), host.file("d.conf"))
    assert result["failed"]
    for words in (
        host.path("a.conf"),
        "did not write",
        "d.conf is a directory",
        "2 files",
        "Rule:",
        "Next step:",
        "force: true",
    ):
        assert words in result["msg"]
    assert host.tree() == {"a.conf": "theirs\n"}


def test_file_of_somebody_else_with_the_same_content_is_adopted(host: Host) -> None:
    (host.etc / "a.conf").write_text("one\n")
    os.chmod(host.etc / "a.conf", 0o644)
    assert host.run(host.file("a.conf"))["changed"] is False
    assert host.actions(host.run(host.file("a.conf", "two\n"))) == {"a.conf": "changed"}


def test_edited_file_is_not_overwritten_unless_forced_and_then_kept_as_a_copy(host: Host) -> None:
    host.run(host.file("a.conf"))
    (host.etc / "a.conf").write_text("edited\n")
    refused = host.run(host.file("a.conf", "two\n"))
    assert "was edited since we wrote it" in refused["msg"]
    result = host.run(host.file("a.conf", "two\n"), force=True, backup=True)
    assert (host.etc / "a.conf").read_text() == "two\n"
    (copy,) = result["backups"]
    assert Path(copy).read_text() == "edited\n"
    assert copy.endswith("~")


def test_file_that_was_removed_by_hand_comes_back(host: Host) -> None:
    host.run(host.file("a.conf"))
    os.unlink(host.path("a.conf"))
    assert host.actions(host.run(host.file("a.conf"))) == {"a.conf": "created"}


def test_link_in_the_place_of_a_file_is_somebody_elses(host: Host) -> None:
    os.symlink("/dev/null", host.path("a.service"))
    assert "a link that we did not write" in host.run(host.file("a.service"))["msg"]
    host.run(host.file("a.service"), force=True)
    assert not os.path.islink(host.path("a.service"))


def test_only_attributes_differ(host: Host) -> None:
    host.run(host.file("a.conf", mode="0600"))
    inode = os.stat(host.path("a.conf")).st_ino
    result = host.run(host.file("a.conf", mode=0o644))
    assert host.actions(result) == {"a.conf": "attributes"}
    assert (mode_of(host.path("a.conf")), os.stat(host.path("a.conf")).st_ino) == (0o644, inode)
    assert "mode 0600" in result["diff"][0]["before"]
    assert "mode 0644" in result["diff"][0]["after"]


def test_check_mode_writes_nothing_and_still_validates(host: Host) -> None:
    result = host.run(
        host.file("sub/a.conf"),
        check=True,
        directories=[{"path": host.path("new")}],
        validate=[{"command": "grep -q one {staged}" + host.path("sub/a.conf")}, {"command": "no-such-tool {staged}"}],
    )
    assert host.actions(result) == {"new": "created", "sub/a.conf": "created"}
    assert (len(result["commands"]), result["commands_skipped"]) == (1, ["no-such-tool '{staged}'"])
    assert list(host.etc.iterdir()) == []
    assert not host.state_dir.exists()
    refused = host.run(host.file("a.conf"), check=True, validate=[{"command": "false"}])
    assert "refused by false (status 1)" in refused["msg"]


def test_check_mode_passes_over_users_that_do_not_exist_yet(host: Host) -> None:
    assert host.run(host.file("a.conf", owner="app-shop-of-tomorrow"), check=True)["changed"]
    result = host.run(host.file("a.conf", owner="app-shop-of-tomorrow"))
    assert "owner 'app-shop-of-tomorrow' does not exist" in result["msg"]


def test_validation_sees_the_whole_set_and_its_refusal_changes_nothing(host: Host) -> None:
    host.run(host.file("a.conf"))
    script = f"test -f {{staged}}{host.path('a.conf')} && echo {{staged}}{host.path('b.conf')}: bad line >&2; exit 1"
    result = host.run(host.file("a.conf"), host.file("b.conf"), validate=[{"command": ["sh", "-c", script]}])
    assert f"\n{host.path('b.conf')}: bad line" in result["msg"], "the staging directory is cut off"
    assert host.tree() == {"a.conf": "one\n"}
    assert host.run(host.file("a.conf"))["changed"] is False


def test_missing_validator_is_an_error_unless_optional(host: Host) -> None:
    result = host.run(host.file("a.conf"), validate=[{"command": "no-such-tool {staged}"}])
    assert "no-such-tool is not installed" in result["msg"]
    assert host.tree() == {}
    assert host.run(host.file("a.conf"), validate=[{"command": "no-such-tool", "optional": True}])["changed"]


def test_refusal_of_the_live_set_puts_everything_back(host: Host) -> None:
    host.run(host.file("a.conf"), host.file("gone.conf"), host.file("same.conf", mode="0600"))
    inodes = {name: os.stat(host.path(name)).st_ino for name in ("a.conf", "gone.conf")}
    state = (host.state_dir / "shop.json").read_text()
    result = host.run(
        host.file("a.conf", "two\n"),
        host.file("new/b.conf"),
        host.file("same.conf", mode="0644"),
        directories=[{"path": host.path("dir")}],
        verify=[{"command": ["sh", "-c", f"cat {host.path('a.conf')}; exit 3"]}],
    )
    assert "(status 3)" in result["msg"]
    assert "two" in result["msg"], "the new file was live when it was verified"
    assert host.tree() == {"a.conf": "one\n", "gone.conf": "one\n", "same.conf": "one\n"}
    assert inodes == {name: os.stat(host.path(name)).st_ino for name in inodes}
    assert mode_of(host.path("same.conf")) == 0o600
    assert sorted(os.listdir(host.etc)) == ["a.conf", "gone.conf", "same.conf"]
    assert (host.state_dir / "shop.json").read_text().replace(" ", "") == state.replace(" ", "")


def test_full_disk_puts_everything_back(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.run(host.file("a.conf"))
    real = file_set._write

    def full(path: str, content: bytes, mode: int, uid: int | None, gid: int | None) -> None:
        if path.endswith(".b.conf.pyfleet-new"):
            Path(path).write_bytes(content[:1])
            raise OSError(28, "No space left on device", path)
        real(path, content, mode, uid, gid)

    monkeypatch.setattr(file_set, "_write", full)
    result = host.run(host.file("a.conf", "two\n"), host.file("b.conf"))
    assert "No space left on device" in result["msg"]
    assert "Next step:" in result["msg"]
    assert host.tree() == {"a.conf": "one\n"}


def test_run_that_was_killed_in_the_middle_is_no_edit_of_anybody(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.run(host.file("a.conf"), host.file("b.conf"))
    real = os.rename

    def killed(source: str, target: str) -> None:
        if target == host.path("b.conf"):
            raise KeyboardInterrupt
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", killed)
        patch.setattr(file_set._Transaction, "_roll_back", lambda self, error: None)
        wanted = [file_set.WantedFile(host.path(name), b"two\n") for name in ("a.conf", "b.conf")]
        file_set_of_shop = file_set.FileSet("shop", str(host.state_dir))
        with pytest.raises(KeyboardInterrupt):
            file_set_of_shop.apply(wanted)
    assert (host.etc / "a.conf").read_text() == "two\n"
    result = host.run(host.file("a.conf", "three\n"), host.file("b.conf", "three\n"))
    assert host.actions(result) == {"a.conf": "changed", "b.conf": "changed"}
    assert host.tree() == {"a.conf": "three\n", "b.conf": "three\n"}, "nothing is left beside them"


def test_two_sets_cannot_have_the_same_file(host: Host) -> None:
    host.run(host.file("a.conf"))
    result = host.run(host.file("a.conf"), set="blog")
    assert "belongs to the set shop" in result["msg"]


def test_i_secret_content_is_nowhere_in_the_output(host: Host) -> None:
    secret = host.file("env", f'PASSWORD="{SECRET}"\n', secret=True)
    secret["encoded"] = base64.b64encode(str(secret.pop("content")).encode()).decode()
    host.run(secret)
    assert mode_of(host.path("env")) == 0o600
    assert SECRET not in host.raw
    changed = host.file("env", "PASSWORD=other\n", secret=True)
    changed["encoded"] = base64.b64encode(str(changed.pop("content")).encode()).decode()
    host.run(changed)
    assert SECRET not in host.raw
    host.run(secret, validate=[{"command": ["sh", "-c", f"cat >&2 {{staged}}{host.path('env')}; false"]}])
    assert "refused" in host.raw
    assert SECRET not in host.raw
    assert SECRET not in (host.state_dir / "shop.json").read_text()
    host.run(state="absent")
    assert SECRET not in host.raw


def test_diff_per_file_and_none_where_unwanted(host: Host) -> None:
    host.run(host.file("a.conf"), host.file("b.conf", "hidden\n", diff=False))
    result = host.run(host.file("a.conf", "two\n"), host.file("b.conf", "hidden too\n", diff=False))
    assert (result["diff"][0]["before"], result["diff"][0]["after"]) == ("one\n", "two\n")
    assert "hidden" not in json.dumps(result["diff"])
    assert "diff" not in host.run(host.file("a.conf", "three\n"), diff=False)


def test_bad_input_is_listed_all_at_once(host: Host) -> None:
    result = host.run(
        {"path": "relative", "content": ""},
        {"path": "/etc/../x", "content": ""},
        host.file("a", mode="rw"),
        host.file("a"),
        {"path": host.path("b")},
        {"path": host.path("c"), "src": "x.j2"},
        validate=[{"command": "'"}],
    )
    for words in (
        "7 problems, nothing was changed",
        "is not absolute",
        "not in its plain form",
        "octal mode",
        "there twice",
        "no content",
        "rendered on the controller",
        "No closing quotation",
    ):
        assert words in result["msg"]
    assert "cannot name a set" in host.run(set="../x")["msg"]


class Systemctl:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, status: int = 0) -> None:
        self.calls = 0
        self.status = status
        monkeypatch.setattr(file_set.FileSet.__init__, "__defaults__", (file_set.STATE_DIR, None, self))

    def __call__(self, argv: object, timeout: float) -> Completed:
        assert argv == ["systemctl", "--no-pager", "daemon-reload"]
        self.calls += 1
        return Completed(self.status, "", "bus is gone")


def test_daemon_reload_only_when_a_unit_changed(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    systemctl = Systemctl(monkeypatch)
    unit = host.file("systemd/system/x.service")
    assert host.run(unit, host.file("a.conf"), daemon_reload=True)["daemon_reloaded"] is True
    assert host.run(unit, host.file("a.conf", "two\n"), daemon_reload=True)["daemon_reloaded"] is False
    drop_in = host.file("systemd/system/nginx.service.d/x.conf")
    assert host.run(unit, drop_in, daemon_reload=True)["daemon_reloaded"] is True
    assert host.run(unit, daemon_reload=True, check=True)["daemon_reloaded"] is False
    assert host.run(unit, daemon_reload=True)["daemon_reloaded"] is True
    assert systemctl.calls == 3


def test_failing_daemon_reload_puts_everything_back_and_reloads_that(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    systemctl = Systemctl(monkeypatch, status=1)
    result = host.run(host.file("systemd/system/x.service"), daemon_reload=True)
    assert "bus is gone" in result["msg"]
    assert list(host.etc.iterdir()) == []
    assert systemctl.calls == 2


def test_directories_are_made_corrected_and_removed_when_empty(host: Host) -> None:
    (host.etc / "theirs").mkdir(mode=0o700)
    wanted = [{"path": host.path("ours"), "mode": "0750"}, {"path": host.path("theirs"), "mode": "0755"}]
    result = host.run(directories=wanted)
    assert host.actions(result) == {"ours": "created", "theirs": "attributes"}
    assert (mode_of(host.path("ours")), mode_of(host.path("theirs"))) == (0o750, 0o755)
    assert host.run(directories=wanted)["changed"] is False
    host.run(state="absent")
    assert os.listdir(host.etc) == ["theirs"]


def test_skipped_validators_do_not_make_the_task_a_skipped_one(host: Host) -> None:
    result = host.run(host.file("a.conf"), validate=[{"command": "no-such-tool", "optional": True}])
    assert result["commands_skipped"] == ["no-such-tool"]
    assert "skipped" not in result, "Ansible takes this key for its own"
