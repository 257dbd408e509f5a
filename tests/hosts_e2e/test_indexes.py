# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/indexes.md, as it is written, against pypiserver with basic authentication on a host: tokens that rotate, expire and are wrong,
the real keyring with a plugin that stands in for the clouds', and a netrc."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import os
import pathlib
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from ansible_collections.pyfleet.runtime.tests.hosts.machine import CHECKOUT
from ansible_collections.pyfleet.runtime.tests.stand_ins import keyring_plugin
from ansible_collections.pyfleet.runtime.tests.testbed import Bed, BedHost, Played
from ansible_collections.pyfleet.runtime.tests.unit.uv.toys import make_wheel

from .conftest import Application, Maker

#: The index lies on one of the hosts that ask it.
HOSTS = ("bookworm1", "trixie1")
INDEX = "trixie1"
UV = str(CHECKOUT / ".venv" / "bin" / "uv")
SERVER = ("pypiserver==2.4.1", "passlib==1.7.4")
UNIT = """[Service]
ExecStart=/opt/index/bin/pypi-server run -p 8091 -P /opt/index/htpasswd -a list,download,update --disable-fallback \
--log-req-frmt "%%(REMOTE_ADDR)s %%(PATH_INFO)s" -v /opt/index/packages
"""
PAGE = (CHECKOUT / "docs" / "indexes.md").read_text(encoding="utf-8")


def block(start: str) -> Any:
    """The YAML block of the page that holds this."""
    found = [text for text in re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL) if start in text]
    assert len(found) == 1, start
    return yaml.safe_load(found[0])


@dataclasses.dataclass
class Index:
    """The index: its host, and the token that it takes."""

    host: BedHost
    folder: pathlib.Path
    token: str = ""

    @property
    def url(self) -> str:
        """The address that stands in pyproject.toml."""
        return f"http://{self.host.address}:8091/simple/"

    def takes(self, token: str) -> str:
        """Another token; no user has the one before any more."""
        self.token = token
        digest = base64.b64encode(hashlib.sha1(token.encode()).digest()).decode()  # noqa: S324 - htpasswd's own form
        self.host.write("/opt/index/htpasswd", "".join(f"{user}:{{SHA}}{digest}\n" for user in ("shop-reader", "aws")))
        return token

    def publish(self, wheel: pathlib.Path) -> None:
        """Another package for the index."""
        content = base64.b64encode(wheel.read_bytes()).decode()
        self.host(f"mkdir -p /opt/index/packages; echo {content} | base64 -d > /opt/index/packages/{wheel.name}")


@pytest.fixture(scope="module")
def index(provisioned: Bed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """pypiserver from the Python index, as a service of the host."""
    served = Index(provisioned.host(INDEX), tmp_path_factory.mktemp("index"))
    served.publish(make_wheel(served.folder, "corptoy", "1.0.0"))
    served.publish(keyring_plugin.make_plugin(served.folder))
    served.takes("t0k3n-of-the-first-hour")
    served.host(
        "UV_TOOL_DIR=/opt/index/tools UV_TOOL_BIN_DIR=/opt/index/bin uv -q tool install {} --with {}".format(*SERVER),
        timeout=120,
    )
    served.host.write("/etc/systemd/system/test-index.service", UNIT)
    served.host("systemctl daemon-reload; systemctl start test-index")
    served.host.wait_until("curl -sfu shop-reader:t0k3n-of-the-first-hour http://127.0.0.1:8091/simple/ >/dev/null")
    yield served
    served.host(
        "systemctl stop test-index; rm -rf /opt/index /etc/systemd/system/test-index.service; systemctl daemon-reload"
    )


class Shop:
    """An application on two hosts that needs what only the index has, and a controller whose command prints the token."""

    def __init__(self, app: Application, index: Index, folder: pathlib.Path) -> None:
        self.app, self.index, self.folder = app, index, folder
        folder.mkdir()
        app.variables.update(block("print-token"))
        app.env["CC_POST_BUILD_HOOK"] = ".venv/bin/python -c 'import corptoy; print(corptoy.__version__)' > corptoy"
        self.prints(f'echo "Welcome $*" >&2; cat {folder}/token')
        self.path = f"{folder}:{app.bed.environment()['PATH']}"

    def prints(self, body: str) -> None:
        """What the command does besides noting that it was called."""
        command = self.folder / "print-token"
        command.write_text(f"#!/bin/sh\necho called >> {self.folder}/calls\n{body}\n")
        command.chmod(0o755)

    def logs_in(self, token: str) -> None:
        """The controller's session gives this token from now on."""
        (self.folder / "token").write_text(token + "\n")

    def calls(self) -> int:
        """How often the command ran since the last question."""
        path = self.folder / "calls"
        number = len(path.read_text().splitlines()) if path.exists() else 0
        path.unlink(missing_ok=True)
        return number

    def needs(self, version: str) -> None:
        """The application's next version, which needs this one of the package; the developer may read the index."""
        self.index.publish(make_wheel(self.index.folder, "corptoy", version))
        project = self.app.source / "pyproject.toml"
        text = re.sub(
            r"^dependencies = .*$", f'dependencies = ["corptoy=={version}"]', project.read_text(), flags=re.MULTILINE
        )
        text = re.sub(r"^exclude-newer = .*\n", "", text.partition("[[tool.uv.index]]")[0], flags=re.MULTILINE)
        project.write_text(f'{text}\n[[tool.uv.index]]\nname = "corp"\nurl = "{self.index.url}"\n')
        variables = {"UV_INDEX_CORP_USERNAME": "shop-reader", "UV_INDEX_CORP_PASSWORD": self.index.token}
        subprocess.run(
            [UV, "lock", "-q", "--no-cache"], cwd=self.app.source, env={**os.environ, **variables}, check=True
        )
        self.app.change(version)

    def deploy(self, **options: Any) -> Played:
        """Deploys with everything that Ansible can say; no token is in it."""
        played = self.app.deploy(environment={"PATH": self.path}, verbosity=4, **options)
        said = played.output + str([event.result for event in played.events])
        assert "t0k3n" not in said
        return played

    def serves(self, version: str, *hosts: str) -> None:
        """These hosts serve that version, with the package in it."""
        for host in hosts or HOSTS:
            assert self.app.ask("/", host=host).json()["version"] == version
            there = self.app.bed.host(host).read("/srv/pyfleet/shop/current/corptoy")
            assert there.strip() == version


def leftovers(host: BedHost) -> str:
    """Where the host has a token in a file, a process or the journal, but where the test put it."""
    return host(
        "cd /; { grep -rlsI t0k3n /srv/pyfleet /etc/pyfleet /etc/systemd /etc/uv /run/pyfleet /run/systemd /root/.ansible /var/log /tmp "
        "--exclude=index-token; grep -lsa t0k3n /proc/[0-9]*/environ; "
        "journalctl --no-pager -q | grep t0k3n; ls /run/pyfleet/*.build /run/pyfleet/*.netrc 2>/dev/null; } | grep -v /proc/self || true"
    )


@pytest.mark.rule("H2", "B8", "I")
def test_h2_the_page_deploys_from_a_private_index_with_tokens_a_keyring_and_a_netrc(
    make_app: Maker, index: Index, tmp_path: pathlib.Path
) -> None:
    app = make_app(limit=",".join(HOSTS))
    shop, on = Shop(app, index, tmp_path / "controller"), app.bed
    shop.logs_in(index.token)
    shop.needs("1.0.0")

    planned = app.play("plan", environment={"PATH": shop.path}).succeeded()
    assert "credentials: a token, printed by print-token on the controller" in " ".join(planned.output.split())
    assert shop.calls() == 0
    shop.deploy().succeeded()
    shop.serves("1.0.0")
    assert shop.calls() == 1, "once, for all hosts"
    assert "corptoy" in index.host("journalctl -u test-index --no-pager")

    # Another token is no other release, and is not even fetched. With a change to build it is, and the old one is worth nothing.
    shop.logs_in(index.takes("t0k3n-of-the-second-hour"))
    assert shop.deploy().succeeded().changed == 0
    assert shop.calls() == 0
    shop.needs("1.1.0")
    shop.deploy().succeeded()
    shop.serves("1.1.0")
    assert shop.calls() == 1
    for name in HOSTS:
        assert leftovers(on.host(name)) == ""

    # An expired token; then a session that has ended, before any host changes.
    index.takes("t0k3n-of-the-third-hour")
    shop.needs("1.2.0")
    before = [on.host(h)("readlink /srv/pyfleet/shop/current; nft list map inet pyfleet public") for h in HOSTS]
    expired = shop.deploy().failed()
    assert "The package index corp refused the build: 40" in expired.output
    assert "Run the token_command of corp by hand: its token may have expired" in expired.output
    shop.calls()
    shop.prints("echo t0k3n-in-part; echo 'Please log in again.' >&2; exit 4")
    ended = shop.deploy().failed()
    assert (
        "print-token on the controller printed none, it ended with status 4. It says: Please log in again."
        in ended.output
    )
    assert ended.changed == 0
    assert shop.calls() == 1
    assert before == [on.host(h)("readlink /srv/pyfleet/shop/current; nft list map inet pyfleet public") for h in HOSTS]
    shop.serves("1.1.0")

    # The keyring of one host: without it the plan says so; then the page's tool, with a plugin that only the index has.
    first, second = HOSTS
    host = on.host(first)
    app.variables.update(block("keyring: true"))
    assert "uv_tools" in shop.deploy(limit=first).failed().output
    tools = block("uv_tools:")
    tools["uv_tools"][0]["with"] = [keyring_plugin.NAME]
    settings = {
        **tools,
        "uv_indexes": [{"name": "corp", "url": index.url}],
        "uv_index_credentials": {"corp": {"username": "shop-reader", "password": index.token}},
    }
    try:
        tooled = on.play("playbooks/provision.yml", settings, limit=first, verbosity=4).succeeded()
        assert "t0k3n" not in tooled.output
        host.write("/srv/pyfleet/shop/home/index-token", index.token + "\n")
        host("chown app-shop: /srv/pyfleet/shop/home/index-token; chmod 600 /srv/pyfleet/shop/home/index-token")
        shop.deploy(limit=first).succeeded()
        shop.serves("1.2.0", first)
        assert f"{index.url} aws" in host.read("/srv/pyfleet/shop/home/keyring.log").splitlines()
        assert shop.calls() == 0
        assert leftovers(host) == ""
    finally:
        gone = {"uv_tools": [{"name": "keyring", "state": "absent"}]}
        on.play("playbooks/provision.yml", gone, limit=first).succeeded()

    # The other host by the page's netrc, for the machine that the index is here.
    del app.variables["app_indexes"]
    netrc = block("app_netrc:")["app_netrc"].replace("index.example.com", index.host.address)
    app.variables["app_netrc"] = netrc.replace("{{ vault_index_password }}", index.token)
    shop.deploy(limit=second).succeeded()
    shop.serves("1.2.0", second)
    assert leftovers(on.host(second)) == ""
