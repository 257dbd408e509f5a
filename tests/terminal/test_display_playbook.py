# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The callback `rollout` in real runs of ansible-playbook, into a file and on a terminal, which is emulated."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import ansible_runner
import pyte
import pytest
import yaml

from ansible_collections.pyfleet.runtime.tests.tools import stage_tree

ANSIBLE = Path(sys.executable).with_name("ansible-playbook")
COLLECTIONS = stage_tree.ROOT / ".work/collections"
SECRET = "correct-horse"
PATIENCE = 60.0


#: A module that warns.
WARNS = """
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule({"text": {}}, supports_check_mode=True)
module.warn(module.params["text"])
module.exit_json()
"""


class Playbook:
    """A playbook with three hosts, all of them this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.inventory = folder / "inventory.ini"
        self.inventory.write_text(
            "[all]\nweb1\nweb2\nweb3\n[all:vars]\nansible_connection=local\n"
            f"ansible_python_interpreter={sys.executable}\n"
        )
        (folder / "ansible.cfg").touch()
        (folder / "library").mkdir()
        (folder / "library/warns.py").write_text(WARNS)
        self.path = folder / "deploy.yml"

    def write(self, *tasks: Mapping[str, object], **play: object) -> Playbook:
        """Writes a play with these tasks; can be called once per play."""
        before = yaml.safe_load(self.path.read_text()) if self.path.exists() else []
        title = {"name": f"Play {len(before) + 1}", "hosts": "all", "gather_facts": False}
        self.path.write_text(
            yaml.safe_dump([*before, {**title, **play, "tasks": [*map(dict, tasks)]}], sort_keys=False)
        )
        return self

    def environment(self, **more: str) -> dict[str, str]:
        """What ansible-playbook sees: nothing of this machine's own settings."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return {
            **kept,
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_STDOUT_CALLBACK": "pyfleet.runtime.rollout",
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_LOCAL_TEMP": str(self.folder / "tmp"),
            "ANSIBLE_REMOTE_TEMP": str(self.folder / "remote"),
            "ANSIBLE_CONFIG": str(self.folder / "ansible.cfg"),
            "LC_ALL": "C.UTF-8",
            "PYTHONIOENCODING": "utf-8",
            "TERM": "xterm-256color",
            **more,
        }

    def command(self, *options: str) -> list[str]:
        """The command line."""
        return [str(ANSIBLE), "-i", str(self.inventory), *options, str(self.path)]

    def into_file(self, *options: str, **more: str) -> tuple[int, str]:
        """Runs with a pipe as output; returns the status and both outputs."""
        done = subprocess.run(
            self.command(*options),
            env=self.environment(**more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
        )
        return done.returncode, done.stdout.decode()


class Terminal:
    """A run of ansible-playbook on a terminal, with what that shows."""

    def __init__(
        self, playbook: Playbook, *options: str, lines: int = 24, more: Mapping[str, str] | None = None
    ) -> None:
        columns = 80
        self.screen = pyte.HistoryScreen(columns, lines, history=1000)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.frames: list[str] = []
        controller, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.before = termios.tcgetattr(terminal)
        self._terminal, self._controller = terminal, controller
        self.process = subprocess.Popen(
            playbook.command(*options),
            env=playbook.environment(**(more or {})),
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            preexec_fn=self._own,  # noqa: PLW1509 - the terminal becomes the process' own, so that Ctrl-C reaches it
        )

    @staticmethod
    def _own() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def text(self) -> str:
        """What the terminal shows now, and has shown above."""
        above = [
            "".join(line[column].data for column in range(self.screen.columns)) for line in self.screen.history.top
        ]
        return "\n".join(line.rstrip() for line in (*above, *self.screen.display)).rstrip("\n")

    def until(self, seen: Callable[[str], object], patience: float = PATIENCE) -> str:
        """Reads until the terminal shows something, or the run ends; `patience` in seconds."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if self._read() and seen(self.text()):
                return self.text()
            if self.process.poll() is not None:
                while self._read():
                    pass
                break
        return self.text()

    def end(self) -> tuple[int, str]:
        """Reads until the run ends; returns its status and what is left on the terminal."""
        text = self.until(lambda _text: False)
        status = self.process.wait(PATIENCE)
        self.after = termios.tcgetattr(self._terminal)
        for descriptor in (self._terminal, self._controller):
            os.close(descriptor)
        return status, text

    def type(self, keys: bytes) -> None:
        """Presses keys."""
        os.write(self._controller, keys)

    def interrupt(self) -> None:
        """Presses Ctrl-C, and once more where the first one was lost: Python swallows one that comes while Ansible forks."""
        for _ in range(2):
            self.type(b"\x03")
            self.until(lambda _text: False, patience=10)
            if self.process.poll() is not None:
                break

    def _read(self) -> bool:
        ready, _, _ = select.select([self._controller], [], [], 0.05)
        if not ready:
            return False
        with contextlib.suppress(OSError):
            piece = os.read(self._controller, 65536)
            self.raw += piece
            self._stream.feed(piece)
            self.frames.append(self.text())
            return bool(piece)
        return False


@pytest.fixture
def playbook(tmp_path: Path) -> Playbook:
    """A playbook without plays."""
    return Playbook(tmp_path)


def task(name: str, module: str, **more: object) -> dict[str, object]:
    """A task; `arguments` are the module's."""
    arguments = more.pop("arguments", {})
    return {"name": name, f"ansible.builtin.{module}": arguments, **more}


def squeezed(text: str) -> list[str]:
    """Lines without the spaces that line up columns, and times as `T`."""
    return [re.sub(r"\b(\d+\.\d s|\d+ s|\d+:\d\d)(?!\w)", "T", " ".join(line.split())) for line in text.split("\n")]


FAILS = (
    task("Quiet", "debug", arguments={"msg": "never mind"}),
    task("Left out", "command", arguments={"cmd": "false"}, when=False),
    task("Work", "command", arguments={"cmd": "true"}),
    task(
        "Break",
        "fail",
        arguments={"msg": "The release does not answer.\nNext step: look."},
        when="inventory_hostname != 'web2'",
    ),
)


def test_a_run_into_a_file(playbook: Playbook) -> None:
    status, text = playbook.write(*FAILS).into_file()
    assert status == 2
    assert "\x1b" not in text
    lines = squeezed(text)
    assert lines[:2] == ["", "Play 1 (3 hosts)"]
    assert sorted(lines[2:5]) == [f"web{number} Work T changed" for number in (1, 2, 3)]
    assert sorted(lines[5:7]) == [f"web{number} Break T failed: The release does not answer." for number in (1, 3)]
    assert lines[7] in ("web1, web3: Break failed", "web3, web1: Break failed")
    assert lines[8:] == [
        "The release does not answer.",
        "Next step: look.",
        "",
        "deploy failed after T",
        "1 changed web2",
        "2 failed web1, web3",
        "",
    ]


@pytest.mark.parametrize("more", [{"NO_COLOR": "1"}, {"ANSIBLE_NOCOLOR": "1"}, {"TERM": "dumb"}])
def test_a_terminal_that_wants_no_escape_codes_gets_none(playbook: Playbook, more: dict[str, str]) -> None:
    playbook.write(task("Break", "fail", arguments={"msg": "no"}), hosts="web1")
    terminal = Terminal(playbook, more=more)
    status, text = terminal.end()
    assert status == 2
    assert b"\x1b" not in terminal.raw
    assert squeezed(text)[1:3] == ["Play 1 (1 host)", "web1 Break T failed: no"]


def test_a_run_on_a_terminal(playbook: Playbook) -> None:
    playbook.write(task("Sleep", "command", arguments={"cmd": "sleep 1.4"}), *FAILS[2:])
    terminal = Terminal(playbook)
    during = squeezed(terminal.until(lambda text: "Sleep" in text))
    assert during[0] == "deploy · Play 1 · T"
    assert "▸ web1 Sleep T" in during
    status, text = terminal.end()
    assert status == 2
    lines = squeezed(text)
    assert lines[0] in ("web1, web3: Break failed", "web3, web1: Break failed")
    assert lines[1:] == [
        "The release does not answer.",
        "Next step: look.",
        "✗ web1 failed T in Break: The release does not answer.",
        "✓ web2 changed T",
        "✗ web3 failed T in Break: The release does not answer.",
        "",
        "deploy failed after T",
        "1 changed web2",
        "2 failed web1, web3",
    ]
    # times go on by themselves, and the frame stays in its place
    ticks = {frame.split("\n")[0] for frame in terminal.frames if "Sleep" in frame}
    assert {"deploy · Play 1 · 0 s", "deploy · Play 1 · 1 s"} <= ticks
    assert all(frame.count("deploy ·") <= 1 for frame in terminal.frames)
    assert not terminal.screen.cursor.hidden
    assert terminal.after == terminal.before


def test_a_fleet_that_is_larger_than_the_terminal(playbook: Playbook) -> None:
    with playbook.inventory.open("a") as inventory:
        inventory.write("[many]\n" + "".join(f"many{number:02}\n" for number in range(30)))
    playbook.write(task("Work", "command", arguments={"cmd": "sleep 0.3"}), hosts="many", serial=[1, 29])
    terminal = Terminal(playbook, lines=12)
    batches = squeezed(terminal.until(lambda text: "batch 2 of 2" in text and "▸" in text))
    assert batches[0] == "deploy · Play 1 · batch 2 of 2 · T"
    assert sum("▸ many" in line for line in batches) >= 1
    assert re.search(r"and \d+ more: .*\d+ waiting", batches[-1])
    assert len(batches) == 11
    terminal.interrupt()
    terminal.end()


def test_a_secret_is_never_shown(playbook: Playbook) -> None:
    playbook.write(
        task("Loop", "command", arguments={"cmd": "test {{ item.word }}x = x"}, loop="{{ words }}", ignore_errors=True),
        task(
            "Hidden",
            "command",
            arguments={"cmd": "sh -c 'echo {{ word }} >&2; false'"},
            no_log=True,
            ignore_errors=True,
        ),
        task(
            "Hidden loop",
            "command",
            arguments={"cmd": "false {{ item }}"},
            loop=["{{ word }}"],
            no_log=True,
            ignore_errors=True,
        ),
        task("Write", "copy", arguments={"content": "{{ word }}", "dest": str(playbook.folder / "out")}, no_log=True),
        {"name": "Warn", "warns": {"text": "{{ word }}"}, "no_log": True},
        task("Last", "fail", arguments={"msg": "the word is {{ word }}"}, no_log=True),
        hosts="web1",
        vars={"word": SECRET, "words": [{"word": SECRET}]},
    )
    terminal = Terminal(playbook, "--diff", "-vv")
    status, text = terminal.end()
    assert status == 2
    assert SECRET.encode() not in terminal.raw
    assert "✗ web1 failed T in Last: Hidden, because the task has no_log." in squeezed(text)


def test_control_c_leaves_the_terminal_as_it_was(playbook: Playbook) -> None:
    playbook.write(task("Sleep", "command", arguments={"cmd": "sleep 30"}))
    terminal = Terminal(playbook)
    terminal.until(lambda text: text.count("▸") == 3)
    terminal.interrupt()
    status, text = terminal.end()
    assert status == 99
    lines = squeezed(text)
    assert lines[0].endswith("User interrupted execution")
    assert lines[1:] == [
        *(f"✗ web{number} interrupted T" for number in (1, 2, 3)),
        "",
        "deploy interrupted after T",
        "3 interrupted web1, web2, web3",
    ]
    assert terminal.after == terminal.before
    assert not terminal.screen.cursor.hidden
    assert terminal.screen.cursor.x == 0


def test_an_interrupted_run_without_frames_says_who_was_at_work(playbook: Playbook) -> None:
    started = playbook.folder / "started"
    playbook.write(task("Sleep", "command", arguments={"cmd": f"sh -c 'touch {started}; sleep 30'"}), hosts="web1")
    terminal = Terminal(playbook, more={"NO_COLOR": "1"})
    deadline = time.monotonic() + PATIENCE
    while not started.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    terminal.interrupt()
    lines = squeezed(terminal.end()[1])
    assert "At work when the run ended: web1 (Sleep)" in lines
    assert lines[-1] == "1 interrupted web1"


def test_differences_are_shown_per_host_in_check_mode(playbook: Playbook) -> None:
    path = playbook.folder / "{{ inventory_hostname }}.txt"
    playbook.write(task("Write", "copy", arguments={"content": "new\n", "dest": str(path)}), hosts="web1,web2")
    status, text = playbook.into_file("--check", "--diff")
    assert status == 0
    lines = squeezed(text)
    for host in ("web1", "web2"):
        place = lines.index(f"{host}: Write")
        assert "+new" in lines[place : place + 5]
    assert "Play 1 (2 hosts, check mode)" in lines
    assert lines[-3:-1] == ["deploy done after T (check mode: nothing was changed)", "2 would change web1, web2"]


def test_warnings_are_shown_once(playbook: Playbook) -> None:
    warn = {"warns": {"text": "mind the gap"}}
    playbook.write({"name": "Warn", **warn}, {"name": "Warn again", **warn})
    status, text = playbook.into_file()
    assert status == 0
    assert text.count("mind the gap") == 1


def test_verbosity_adds_a_line_per_task(playbook: Playbook) -> None:
    playbook.write(*FAILS[:3], hosts="web1")
    _, text = playbook.into_file("-v")
    assert {"ok: [web1] Quiet", "skipped: [web1] Left out", "changed: [web1] Work"} <= set(squeezed(text))


def test_lost_rescued_ignored_and_delegated(playbook: Playbook) -> None:
    away = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    rescue = {
        "block": [task("Try", "command", arguments={"cmd": "sh -c 'echo no >&2; exit 3'"})],
        "rescue": [task("Mend", "command", arguments={"cmd": "true"})],
        "when": "inventory_hostname == 'web2'",
    }
    retried = task(
        "Wait", "command", arguments={"cmd": "false"}, ignore_errors=True, when="inventory_hostname == 'web3'"
    )
    playbook.write(
        task("Enter", "ping", vars=away, when="inventory_hostname == 'web1'"),
        rescue,
        {**retried, "register": "tried", "until": "tried is success", "retries": 2, "delay": 0.1},
        task("Drain", "command", arguments={"cmd": "true"}, delegate_to="web1", when="inventory_hostname == 'web3'"),
        task(
            "Later",
            "command",
            arguments={"cmd": "true"},
            **{"async": 10, "poll": 1},
            when="inventory_hostname == 'web3'",
        ),
    )
    status, text = playbook.into_file()
    assert status == 4
    lines = squeezed(text)
    assert any(line.startswith("web1 Enter T unreachable: ") for line in lines)
    place = lines.index("web2: Try failed")
    assert lines[place + 1 : place + 4] == ["The command ended with status 3.", "Output:", "no"]
    assert "web3 Wait T failed, tries again: attempt 2 of 3" in lines
    assert "web3 Wait T failed, ignored: The command ended with status 1." in lines
    assert "web3 Drain T on web1: changed" in lines
    assert "web3 Later T changed" in lines
    assert lines[-4:-1] == ["1 changed web3", "1 rescued web2", "1 unreachable web1"]


def test_while_somebody_is_asked_nothing_is_drawn(playbook: Playbook) -> None:
    playbook.write(
        task("Work", "command", arguments={"cmd": "sleep 0.3"}),
        task("Ask", "pause", arguments={"prompt": "Go on?"}),
        task("More", "command", arguments={"cmd": "sleep 0.5"}),
        hosts="web1",
    )
    terminal = Terminal(playbook)
    terminal.until(lambda text: "Go on?" in text)
    terminal.until(lambda _text: False, patience=1)  # four frames' time
    assert "deploy ·" not in terminal.text()
    terminal.type(b"\r")
    status, text = terminal.end()
    assert status == 0
    assert "✓ web1 changed T" in squeezed(text)


def test_everything_is_in_the_log_file(playbook: Playbook) -> None:
    log = playbook.folder / "log"
    playbook.write(*FAILS)
    Terminal(playbook, more={"ANSIBLE_LOG_PATH": str(log)}).end()
    written = squeezed(log.read_text())
    assert any(line.endswith("web2 Work T changed") for line in written)
    assert any(line.endswith("Next step: look.") for line in written)
    assert "\x1b" not in log.read_text()


def test_ansible_runner_gets_plain_lines_and_its_events(playbook: Playbook) -> None:
    playbook.write(*FAILS)
    environment = {name: value for name, value in playbook.environment().items() if name.startswith("ANSIBLE_")}
    done = ansible_runner.run(
        private_data_dir=str(playbook.folder),
        playbook=str(playbook.path),
        inventory=str(playbook.inventory),
        envvars={**environment, "PATH": f"{ANSIBLE.parent}:{os.environ['PATH']}"},
        quiet=True,
    )
    assert (done.status, done.rc) == ("failed", 2)
    assert {"runner_on_failed", "runner_on_ok", "playbook_on_stats"} <= {event["event"] for event in done.events}
    text = done.stdout.read()
    assert "2 failed" in " ".join(squeezed(display_text(text)))
    assert "▸" not in text
    assert re.search(r"\x1b\[\d*[AJ]", text) is None


def display_text(text: str) -> str:
    """A text without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_ansible_doc_describes_it() -> None:
    done = subprocess.run(
        [str(ANSIBLE.with_name("ansible-doc")), "-t", "callback", "pyfleet.runtime.rollout"],
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "one line per host" in done.stdout
