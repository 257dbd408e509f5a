# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""F5, F10, F11: the hops whose programs are not in the distribution.

oauth2-proxy and the agent of redirection.io are STAND-INS (tests/stand_ins/middleware.py): they refuse settings that the
real ones would refuse, and proxy.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.plugins.module_utils.environment import (
    parse_environment_file,
    to_environment_file,
)
from ansible_collections.pyfleet.runtime.tests.unit.flow.proxies import (
    STAND_INS,
    application,
    ask,
    free_port,
    render,
    running,
    with_ports,
)

OAUTH2 = {
    "OAUTH2_PROXY_CLIENT_ID": "shop",
    "OAUTH2_PROXY_CLIENT_SECRET": 'a "secret" with $HOME, `ls` and \\ in it',
    "OAUTH2_PROXY_COOKIE_SECRET": "0123456789abcdef",
    "OAUTH2_PROXY_EMAIL_DOMAINS": "*",
    "OAUTH2_PROXY_SKIP_AUTH_ROUTES": "GET=^/health$",
    # Those that come from the chain.
    "OAUTH2_PROXY_HTTP_ADDRESS": "0.0.0.0:4180",
    "OAUTH2_PROXY_UPSTREAMS": "http://elsewhere/",
}
AGENT: dict[str, Any] = {
    "generation": 2,
    "project_key": "0f3d:secret-key",
    "instance_name": "shop \"one\" 'two' é",
    "forward_port": None,
    "configuration": "",
}


def stand_in(folder: Path, name: str) -> str:
    return str(shutil.copy(STAND_INS / "middleware.py", folder / name))


def environment(text: str) -> dict[str, str]:
    """What systemd makes of an EnvironmentFile."""
    return parse_environment_file("".join(line for line in text.splitlines(True) if line.strip() and line[0] != "#"))


def write_run(folder: Path, service: str, flow: dict[str, Any], listen: int, forward: int) -> str:
    run = folder / "run"
    run.write_text(with_ports(render(f"{service}.run.j2", service, flow), listen, forward))
    run.chmod(0o755)
    return str(run)


def oauth2(
    folder: Path, changes: dict[str, str], listen: int, forward: int, ipv6: bool = False
) -> tuple[str, dict[str, str]]:
    flow = {"program": stand_in(folder, "oauth2-proxy-0123456789ab"), "environment": {**OAUTH2, **changes}}
    text = with_ports(render("oauth2-proxy.environment.j2", "oauth2-proxy", flow), listen, forward, "0.0.0.0", ipv6)
    return write_run(folder, "oauth2-proxy", flow, listen, forward), environment(text)


@pytest.mark.parametrize("ipv6", [False, True])
def test_f11_listen_address_and_upstream_come_from_the_chain(tmp_path: Path, ipv6: bool) -> None:
    with application() as served:
        port = free_port()
        run, variables = oauth2(tmp_path, {}, port, served.port, ipv6)
        assert variables["OAUTH2_PROXY_CLIENT_SECRET"] == OAUTH2["OAUTH2_PROXY_CLIENT_SECRET"]
        assert variables["OAUTH2_PROXY_HTTP_ADDRESS"] == f"{'[::]' if ipv6 else '0.0.0.0'}:{port}"
        with running([run], port, tmp_path / "log", {**os.environ, **variables}) as process:
            assert ask(port, "/").status == 403
            assert ask(port, "/health").status == 200
            answer = ask(port, "/?a", headers={"Cookie": "_oauth2_proxy=stand-in"}, method="POST", body=b"abc")
            assert (answer.json["body"], answer.sent("X-Forwarded-User")) == ("abc", ["stand-in"])
            command = Path(f"/proc/{process.pid}/cmdline").read_text()
            assert "secret" not in command
            assert "0123456789abcdef" not in command


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"OAUTH2_PROXY_COOKIE_SECRET": "short"}, "cookie_secret must be 16, 24, or 32 bytes"),
        ({"OAUTH2_PROXY_EMAIL_DOMAINS": ""}, "email"),
    ],
)
def test_f11_the_stand_in_refuses_what_the_real_one_does(tmp_path: Path, changes: dict[str, str], words: str) -> None:
    run, variables = oauth2(tmp_path, changes, free_port(), 1)
    done = subprocess.run([run], env={**os.environ, **variables}, capture_output=True, text=True, timeout=10)
    assert done.returncode != 0
    assert words in done.stderr


def agent(folder: Path, changes: dict[str, Any], listen: int, forward: int) -> tuple[str, dict[str, str]]:
    flow = {**AGENT, "program": stand_in(folder, "redirectionio-agent"), **changes}
    (folder / "agent.yml").write_text(
        with_ports(render("redirectionio.agent.yml.j2", "redirectionio", flow), listen, forward)
    )
    variables = {name: str(folder) for name in ("CREDENTIALS_DIRECTORY", "CACHE_DIRECTORY", "RUNTIME_DIRECTORY")}
    return write_run(folder, "redirectionio", flow, listen, forward), variables


@pytest.mark.parametrize("generation", [2, 3])
@pytest.mark.parametrize("override", [False, True])
def test_f10_project_key_instance_name_and_forward_port(tmp_path: Path, generation: int, override: bool) -> None:
    with application() as served:
        port = free_port()
        changes = {"generation": generation, "forward_port": served.port if override else None}
        run, variables = agent(tmp_path, changes, port, 1 if override else served.port)
        with running([run], port, tmp_path / "log", {**os.environ, **variables}) as process:
            answer = ask(port, "/a", headers={"Host": "shop.example"})
            assert answer.sent("X-Redirectionio-Generation") == [str(generation)]
            assert answer.sent("X-Redirectionio-Instance") == ["shop \"one\" 'two' \xc3\xa9"]
            assert answer.sent("Host") == ["shop.example"]
            assert "secret-key" not in Path(f"/proc/{process.pid}/cmdline").read_text()


@pytest.mark.parametrize("ipv6", [False, True])
@pytest.mark.parametrize("generation", [2, 3])
def test_f10_the_configuration_is_yaml(generation: int, ipv6: bool) -> None:
    import yaml

    flow = {**AGENT, "generation": generation}
    text = with_ports(render("redirectionio.agent.yml.j2", "redirectionio", flow), 18080, 9000, "0.0.0.0", ipv6)
    read = yaml.safe_load(text)
    (proxy,) = read["proxies" if generation == 2 else "reverse_proxy"]
    assert proxy == {
        "listen": "[::]:18080" if ipv6 else "0.0.0.0:18080",
        "forward": "http://127.0.0.1:9000",
        "project_key": AGENT["project_key"],
    }
    assert (read["instance_name"] if generation == 2 else read["instance"]["name"]) == AGENT["instance_name"]


def test_f10_a_configuration_of_ones_own() -> None:
    flow = {**AGENT, "configuration": "listen: @LISTEN_PORT@\nforward: @FORWARD_PORT@"}
    text = with_ports(render("redirectionio.agent.yml.j2", "redirectionio", flow), 18080, 9000)
    assert text == "listen: 18080\nforward: 9000\n"


def test_f14_variables_are_written_as_for_the_application() -> None:
    variables = {"B": 'a "secret" with $HOME, `ls` and \\ in it\nand a line', "A": "1"}
    text = render("custom.environment.j2", "custom", {"environment": variables})
    assert text.partition("\n")[2] == to_environment_file(variables)


def test_f5_the_command_gets_its_ports(tmp_path: Path) -> None:
    flow = {
        "script": "echo $NAME @@LISTEN_PORT@@ @@FORWARD_PORT@@ && echo done",
        "environment": {"NAME": 'a$b `c` "d" \\'},
    }
    run = write_run(tmp_path, "custom", flow, 18081, 18082)
    variables = environment(render("custom.environment.j2", "custom", flow))
    done = subprocess.run([run], env={**os.environ, **variables}, capture_output=True, text=True, check=True)
    assert done.stdout == 'a$b `c` "d" \\ 18081 18082\ndone\n'
