# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/pytorch.md on hosts: Debian's Nginx serves two indexes with two builds of one version, and each host answers with its own.

A package of a few lines stands in for PyTorch, as the page says (tests/stand_ins/torch.py).
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator

import pytest
import yaml

from ansible_collections.pyfleet.runtime.tests.hosts.machine import CHECKOUT
from ansible_collections.pyfleet.runtime.tests.stand_ins.torch import make_indexes
from ansible_collections.pyfleet.runtime.tests.testbed import Bed, BedHost, Played

from .conftest import FIXTURES, Application, Maker

pytestmark = pytest.mark.rule("H3")

PAGE = (CHECKOUT / "docs" / "pytorch.md").read_text(encoding="utf-8")
UV = str(CHECKOUT / ".venv" / "bin" / "uv")
#: The page's hosts by the bed's, and the host whose Nginx is the index.
WEB, GPU, INDEX = "bookworm1", "trixie1", "bookworm2"
PORT = 8899
QUESTION = json.dumps({"rows": [[1, 0], [2, 1]]}).encode()
NGINX = """user www-data;
pid /run/torch-index.pid;
error_log stderr;
events {}
http {
  access_log /var/log/torch-index.log;
  types { text/html html; }
  server { listen %(port)d; root /srv/torch; index index.html; }
  server { listen 443 ssl; root /srv/torch; index index.html; ssl_certificate /srv/torch.crt; ssl_certificate_key /srv/torch.key; }
}
"""


def block(title: str) -> str:
    """The block of the page that begins with this comment."""
    (found,) = re.findall(rf"^```yaml\n# {re.escape(title)}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


@pytest.fixture(scope="module")
def index(provisioned: Bed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BedHost]:
    """A host with Debian's Nginx and two indexes; the certificate is of an authority of its own."""
    provisioned.up(**{INDEX: "bookworm"})
    provisioned.play(
        "playbooks/provision.yml", limit=INDEX
    ).succeeded()  # it is a host like any other for tests that follow
    host = provisioned.host(INDEX)
    host(
        "command -v nginx >/dev/null || { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qqy "
        "-o Dpkg::Use-Pty=0 install --no-install-recommends nginx-light openssl >/dev/null; }; systemctl disable -q --now nginx",
        timeout=300,
    )
    folder = make_indexes(tmp_path_factory.mktemp("torch"), "cpu", "cu128")
    archive = subprocess.run(["tar", "-C", str(folder), "-cz", "whl"], check=True, capture_output=True).stdout
    line = provisioned._run.ssh_command(host._host, "rm -rf /srv/torch && mkdir /srv/torch && tar -C /srv/torch -xz")
    subprocess.run(line, input=archive, check=True)
    name = shlex.quote(builtin_host())
    new = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -config /dev/null"
    host(
        f"cd /srv && {new} -subj /CN=authority -addext basicConstraints=critical,CA:TRUE -keyout ca.key -out ca.crt 2>/dev/null && "
        f"{new} -CA ca.crt -CAkey ca.key -subj /CN=stand-in -addext subjectAltName=DNS:{name} -addext basicConstraints=CA:FALSE "
        "-keyout torch.key -out torch.crt 2>/dev/null"
    )
    host.write("/etc/nginx/torch.conf", NGINX % {"port": PORT})
    host(
        "systemctl stop torch-index 2>/dev/null; rm -f /var/log/torch-index.log; "
        "systemd-run -q --unit torch-index nginx -c /etc/nginx/torch.conf -g 'daemon off;'"
    )
    host.wait_until(f"curl -fsS http://127.0.0.1:{PORT}/whl/cpu/torch/")
    yield host
    host("systemctl stop torch-index")


def builtin_host() -> str:
    """The name of PyTorch's index, which uv knows; its own error tells it."""
    environment = {**os.environ, "UV_TORCH_BACKEND": "cpu", "UV_HTTP_RETRIES": "0", "ALL_PROXY": "http://127.0.0.1:9"}
    command = [UV, "pip", "install", "--dry-run", "--no-cache", "--python", str(CHECKOUT / ".venv"), "torch"]
    words = subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stderr
    match = re.search(r"https://([\w.-]+)/whl/cpu/", words)
    assert match, words
    return match[1]


@pytest.fixture
def inventory(tmp_path: pathlib.Path) -> list[str]:
    """The page's groups, with hosts of the bed in the place of its own."""
    folder = tmp_path / "inventory"
    (folder / "group_vars").mkdir(parents=True)
    text = block("inventory.yml").replace("web1", WEB).replace("gpu1", GPU)
    (folder / "hosts.yml").write_text(text)
    for group in ("python_hosts", "gpu"):
        (folder / "group_vars" / f"{group}.yml").write_text(block(f"group_vars/{group}.yml"))
    return [f"--inventory={folder}"]


@pytest.fixture
def app(make_app: Maker, index: BedHost, tmp_path: pathlib.Path) -> Application:
    """The page's application, locked against the two indexes."""
    made = make_app(name="inference", fixture="tiny", limit=f"{WEB}:{GPU}")
    shutil.rmtree(made.source)
    shutil.copytree(FIXTURES / "inference", made.source)
    project = made.source / "pyproject.toml"
    project.write_text(project.read_text().replace("https://torch.example", index.url(PORT, "").rstrip("/")))
    subprocess.run([UV, "lock", "-q"], cwd=made.source, check=True)
    made.env = yaml.safe_load(block("group_vars/python_hosts.yml"))["app_env"]
    return made


def predicted(app: Application, host: str) -> str:
    """The build that answered, after making sure that it multiplied."""
    answer = app.ask("/predict", method="POST", headers={"Content-Type": "application/json"}, data=QUESTION, host=host)
    assert answer.json()["result"] == [[1.0, 2.0], [5.0, 8.0]]
    return str(answer.json()["build"])


def builds(app: Application) -> dict[str, str]:
    """The build of each host."""
    return {host: predicted(app, host) for host in (WEB, GPU)}


def releases(app: Application) -> list[str]:
    """What serves on each host."""
    return [app.bed.host(host)("basename $(readlink /srv/pyfleet/inference/current)") for host in (WEB, GPU)]


def text_of(run: Played, host: str) -> str:
    """The plan of one host, for a person."""
    (event,) = run.of("plan", host)
    return str(event.result["text"])


def test_h3_one_rollout_brings_each_group_its_own_build_and_a_rollback_both_back(
    app: Application, inventory: list[str], index: BedHost
) -> None:
    hook = {"CC_PRE_RUN_HOOK": 'echo ran >> "$HOME/hook"'}
    app.variables["app_pre_run_hook"] = "once"
    app.variables["app_build"] = "once"
    first = app.deploy(hook, arguments=inventory).succeeded()
    assert builds(app) == {WEB: "2.9.1+cpu", GPU: "2.9.1+cu128"}
    assert "--extra cpu" in text_of(first, WEB)
    assert "--extra cu128" in text_of(first, GPU)
    web, gpu = releases(app)
    assert web != gpu
    assert web[:8] == gpu[:8], "one deployment"
    ran = [
        app.bed.host(host).run("wc -l < /srv/pyfleet/inference/home/hook", check=False).stdout.strip()
        for host in (WEB, GPU)
    ]
    assert sorted(ran) == ["", "1"], "the hook ran once, on one of them"
    log = index("cat /var/log/torch-index.log")
    for host, other in ((WEB, "cu128"), (GPU, "cpu")):
        asked = [line for line in log.splitlines() if line.startswith(app.bed.host(host).address)]
        assert any(".whl" in line for line in asked)
        assert not any(f"%2B{other}" in line for line in asked), "nobody fetched the build of another"
    unit = [app.bed.host(host)("systemctl cat app-inference@.service") for host in (WEB, GPU)]
    assert ["PrivateDevices=yes" in text for text in unit] == [True, False]
    assert ["DeviceAllow=char-nvidia* rw" in text for text in unit] == [False, True]
    assert app.deploy(hook, arguments=inventory).succeeded().changed == 0

    # The GPU host becomes one without: `auto` looks at it, and it gets a new release of the same deployment, beside the one that serves.
    auto = app.deploy(hook, arguments=inventory, variables={"app_accelerator": "auto"}).succeeded()
    assert "auto: no GPU found: extra cpu" in text_of(auto, GPU)
    assert builds(app) == {WEB: "2.9.1+cpu", GPU: "2.9.1+cpu"}
    assert releases(app) == [web, web], "the same as on a host that always was one without"
    assert app.bed.host(GPU)("basename $(readlink /srv/pyfleet/inference/previous)") == gpu
    assert not auto.of("uv_sync", WEB), "the other host has nothing to do"

    # Another deployment on both, then back to the first by its name, which is the same on both.
    change = {**hook, "GENERATION": "2"}
    second = app.deploy(change, arguments=inventory).succeeded()
    assert "accelerator cu128" in app.play("status", arguments=inventory).succeeded().output
    named = {event.host: str(event.result["release"]) for event in second.of("plan")}
    assert named[WEB][:8] == named[GPU][:8] != web[:8]
    app.play("rollback", variables={"app_release": web[:8]}, arguments=inventory).succeeded()
    assert releases(app) == [web, web]
    forth = app.play("rollback", variables={"app_release": named[WEB]}, arguments=inventory).succeeded()
    assert releases(app) == [named[WEB], named[GPU]], forth.output
    assert builds(app) == {WEB: "2.9.1+cpu", GPU: "2.9.1+cu128"}
    app.play("rollback", arguments=inventory).succeeded()
    assert releases(app) == [web, web]

    refused = app.deploy(change, arguments=inventory, variables={"app_accelerator": "cu999"}).failed()
    assert "this project has: cpu, cu128" in refused.output
    assert releases(app) == [web, web]


def test_h3_the_pip_interface_takes_the_build_from_the_index_that_uv_knows(make_app: Maker, index: BedHost) -> None:
    app = make_app(name="batch", limit=WEB)
    for path in app.source.iterdir():
        path.unlink() if path.is_file() else shutil.rmtree(path)
    (app.source / "requirements.txt").write_text("torch==2.9.1\n")
    script = "import os, torch; print('built', torch.__version__, os.environ.get('UV_TORCH_BACKEND'))"
    app.env = {"CC_TASK": "true", "CC_RUN_COMMAND": f'python -c "{script}"', "UV_SYSTEM_CERTS": "1"}
    app.variables |= {"app_switch": "auto", "app_accelerator": "cu128"}
    name, host = builtin_host(), app.host
    certificate = "/usr/local/share/ca-certificates/torch-stand-in.crt"
    host.write(certificate, index.read("/srv/ca.crt"))
    host(f"update-ca-certificates >/dev/null 2>&1; echo '{index.address} {name}' >> /etc/hosts")
    try:
        app.deploy().succeeded()
        assert "built 2.9.1+cu128 None" in host("journalctl --no-pager -o cat -u 'app-batch*'"), (
            "a variable of the build alone"
        )
        assert app.deploy().succeeded().changed == 0
    finally:
        host(
            f"sed '/ {name}$/d' /etc/hosts > /tmp/hosts && cat /tmp/hosts > /etc/hosts; rm {certificate} /tmp/hosts; "
            "update-ca-certificates >/dev/null 2>&1"
        )
