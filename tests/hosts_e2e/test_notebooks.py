# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/notebooks.md, as it is written, on hosts, and a real browser that runs a cell in every server of it."""

from __future__ import annotations

import json
import pathlib
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from ansible_collections.pyfleet.runtime.tests.browser.chromium import Page, browser
from ansible_collections.pyfleet.runtime.tests.hosts.machine import CHECKOUT
from ansible_collections.pyfleet.runtime.tests.testbed import Bed, Played
from ansible_collections.pyfleet.runtime.tests.tools.prepare_app import excluded_date

from . import chains
from .conftest import Application, Maker

pytestmark = pytest.mark.rule("H4")

PAGE = (CHECKOUT / "docs" / "notebooks.md").read_text(encoding="utf-8")
#: JupyterLab wants Python 3.11; the chain and the host's own servers on one host, Nginx and marimo on the other.
ONE, OTHER = "bookworm1", "trixie1"
TOKEN = "t0ken-of-the-test-which-is-long-enough"
#: What the page's server has, where the browser of this machine reaches it.
SERVER = {
    **yaml.safe_load("python_hosts:" + PAGE.partition("```yaml\npython_hosts:")[2].partition("```")[0])["python_hosts"][
        "vars"
    ],
    "notebook_address": "0.0.0.0",
    "notebook_base_url": "/tools/",
}

# Whether the notebook in front shows its prompt, and what the outputs of all its cells say.
READY = """document.querySelector('.jp-Notebook .jp-Cell .cm-content') &&
  /\\bIdle\\b/.test(document.querySelector('#jp-main-statusbar').innerText)"""
OUTPUTS = "[...document.querySelectorAll('.jp-OutputArea-output')].map(one => one.innerText).join('\\n')"

CELLS = "document.querySelectorAll('[data-cell-id] .cm-content')"


def recipe(name: str) -> dict[str, str]:
    """The variables of an application of the page; what it keeps in a vault is the test's token."""
    blocks = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (found,) = [text for text in blocks if text.startswith(f"app_name: {name}\n")]
    return dict(yaml.safe_load(re.sub(r"{{ vault_\w+ }}", TOKEN, found))["app_env"])


def status(address: str) -> int:
    """What a request without a token gets in the end, redirects followed."""
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("chromium") / "profile") as opened:
        opened.show(1280)
        yield opened


#: Older than the application: what applications of other tests left may have the number of its group by now.
BEFORE = "/run/before-lab"


@pytest.fixture(scope="module")
def lab(make_module_app: Maker) -> Application:
    """JupyterLab as an application behind Varnish."""
    app = make_module_app("lab", "notebooks", limit=ONE)
    app.env = {**recipe("lab"), "CC_VARNISH_FILE": "/lab.vcl", "CC_VARNISH_STORAGE_SIZE": "32M"}
    assert "".join(app.source.joinpath("lab.vcl").read_text().partition("\n\nsub vcl_deliver")[:1]) in PAGE
    app.variables = {"app_drain_seconds": 2, "app_stop_seconds": 5}
    app.host(f"touch {BEFORE}")
    app.deploy().succeeded()
    return app


def run_cell(page: Page, card: str, code: str, shows: str) -> None:
    """In JupyterLab: a click on a card of the launcher, a cell, Shift+Enter, and what comes of it."""
    page.click(f'.jp-LauncherCard[data-category="Notebook"][title*="{card}"]')
    page.until(READY)
    page.click(".jp-Notebook .jp-Cell .cm-content")
    page.write(code)
    page.press("Enter", shift=True)
    page.until(f"{OUTPUTS}.includes({json.dumps(shows)})")


def test_h4_jupyterlab_behind_varnish_runs_a_cell_that_imports_the_project(lab: Application, page: Page) -> None:
    host = lab.host
    assert chains.services(host, "lab") == ["varnish"]
    assert lab.ask("/research/api").headers["X-Vcl"] == "lab"
    assert status(host.url(8080, "/research/api/kernels")) == 403, "nobody runs anything without a token"
    page.open(host.url(8080, f"/research/lab?token={TOKEN}"))
    run_cell(page, "Python 3", "import os, shop\nprint('told:', shop.told(), os.getcwd())", "told: shop 1.0.0")
    assert "/srv/pyfleet/lab/home/notebooks" in page.run(OUTPUTS)
    # The WebSocket of the kernel is one through both hops, and Varnish would have ended it after a minute.
    assert host("varnishadm -n /var/cache/pyfleet-flow-lab-*-varnish param.show pipe_timeout | grep -c 86400") == "1"
    page.press("s", control=True)
    page.click(".jp-Dialog .jp-mod-accept")  # it asks for a name once; the one that it has will do
    host.wait_until("grep -q told: /srv/pyfleet/lab/home/notebooks/Untitled.ipynb")
    assert TOKEN not in host(
        "ps axww -o args; cat /etc/systemd/system/app-lab*; journalctl --sync; journalctl --no-pager -u 'app-lab@*'"
    )


def test_h4_a_release_switch_keeps_the_work_and_a_start_needs_no_index(lab: Application, page: Page) -> None:
    before, host = lab.linked(), lab.host
    lab.change("2.0.0")
    lab.deploy().succeeded()
    assert lab.linked() != before
    lab.bed.cut(ONE)
    try:
        host(f"systemctl restart app-lab@{lab.linked()}.service")
        host.wait_until("curl -sf localhost:8080/research/api")
    finally:
        lab.bed.uncut(ONE)
    assert "told: shop 1.0.0" in host("cat /srv/pyfleet/lab/home/notebooks/Untitled.ipynb")
    page.open(host.url(8080, f"/research/lab/tree/Untitled.ipynb?token={TOKEN}"))
    page.until(READY)
    page.click(".jp-Notebook .jp-Cell .cm-content")
    page.press("Enter", shift=True)
    page.until(f"{OUTPUTS}.includes('told: shop 2.0.0')")


def play(bed: Bed, variables: dict[str, Any], limit: str = ONE, **options: Any) -> Played:
    return bed.play("playbooks/notebook.yml", {**SERVER, **variables}, limit=limit, **options)


@pytest.fixture
def nothing_left(lab: Application) -> Iterator[None]:
    """Whatever becomes of a test, its server goes."""
    yield
    if lab.host.exists("/etc/pyfleet-notebooks/research"):
        play(lab.bed, {"notebook_state": "absent"}).succeeded()


@pytest.mark.usefixtures("nothing_left")
def test_h4_a_server_of_the_host_with_the_projects_kernel(lab: Application, page: Page) -> None:
    host, bed = lab.host, lab.bed
    wrong = play(bed, {"notebook_port": 9000, "notebook_kernels": ["nothing"]}).failed()
    assert "Port 9000 belongs to the application lab" in wrong.message()
    assert "No application nothing has a release on this host; there are: lab" in wrong.message()
    assert not host.exists("/etc/pyfleet-notebooks/research")

    shown = play(bed, {"notebook_kernels": ["lab"]}, check=True, diff=True, verbosity=3).succeeded()
    assert shown.changed
    assert not host.exists("/etc/pyfleet-notebooks/research")
    made = play(bed, {"notebook_kernels": ["lab"]}, diff=True, verbosity=3).succeeded()
    assert play(bed, {"notebook_kernels": ["lab"]}).succeeded().changed == 0
    token = host("cat /etc/pyfleet-notebooks/research/token")
    assert len(token) >= 32
    assert token not in made.output
    assert token not in host(
        "ps axww -o args; cat /etc/systemd/system/notebook-*; journalctl --no-pager -u notebook-research"
    )
    assert host("stat -c '%a %U' /etc/pyfleet-notebooks/research/token") == "600 root"
    assert host("ps -o user:30= -C jupyter-lab | sort -u").split() == ["app-lab", "notebook-research"]

    assert status(host.url(8888, "/tools/api/kernels")) == 403
    page.open(host.url(8888, f"/tools/lab?token={token}"))
    look = (
        "import glob, os, pathlib, shop\n"
        "def tried(what):\n"
        "    try: return what() or 'nothing'\n"
        "    except OSError as error: return error.strerror\n"
        "release = pathlib.Path(shop.__file__).parents[1]\n"
        "print('told:', shop.told(), os.getuid() != 0, os.environ.get('JUPYTER_TOKEN'))\n"
        "print('environment:', tried(lambda: open(f'/etc/pyfleet/lab/{release.name}/environment').read()))\n"
        "print('settings:', tried(lambda: os.listdir('/etc/pyfleet')))\n"
        "print('home:', tried(lambda: os.listdir('/srv/pyfleet/lab/home')))\n"
        "print('write:', tried(lambda: (release / '.venv' / 'x').touch()))\n"
        "print('processes:', {tried(pathlib.Path(path).owner) for path in glob.glob('/proc/[0-9]*')})\n"
        "print('end')"
    )
    # The editor would indent what is pasted line by line.
    run_cell(page, "lab", f"exec({look!r})", "end")
    outputs = page.run(OUTPUTS)
    assert f"told: shop 2.0.0 of {lab.linked()} True None" in outputs
    for name in ("environment", "settings", "home"):
        assert f"{name}: Permission denied" in outputs
    assert "write: Read-only file system" in outputs
    assert "processes: {'notebook-research'}" in outputs
    assert TOKEN not in outputs
    # Whatever else the application's group may read is hidden by the unit or behind the door of the home, or it is bytecode.
    places = ("/srv/pyfleet/lab/releases", "/srv/pyfleet/lab/home", "/var/cache/app-lab", "/etc/pyfleet")
    left_out = " ".join(f"-not -path '{place}/*'" for place in places)
    assert host(f"find /etc /run /srv /var -xdev -type f -group app-lab -perm /040 -newer {BEFORE} {left_out}") == ""

    gone = play(bed, {"notebook_state": "absent"}).succeeded()
    assert gone.changed
    assert play(bed, {"notebook_state": "absent"}).succeeded().changed == 0
    made_by_it = "/etc/systemd/system/notebook-research* /{etc,var/lib,var/cache}/pyfleet-notebooks/research"
    assert host(f"ls -d {made_by_it} /opt/pyfleet/notebooks/research 2>/dev/null; true") == ""
    assert "Untitled" in host("ls /srv/notebooks/research")


def test_h4_jupyterlab_behind_nginx_runs_a_cell(make_app: Maker, page: Page) -> None:
    app = make_app("classic", "notebooks", limit=OTHER)
    app.env = recipe("classic")
    app.variables = {"app_drain_seconds": 2, "app_stop_seconds": 5}
    app.deploy().succeeded()
    assert app.ask("/api").headers["Server"] == "nginx"
    page.open(app.host.url(8080, f"/lab?token={TOKEN}"))
    run_cell(page, "Python 3", "print('sum:', sum(range(101)))", "sum: 5050")


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The page's project for marimo: a notebook with inline metadata, locked, and an empty project."""
    source = tmp_path_factory.mktemp("orders") / "orders"
    source.mkdir()
    shutil.copy(CHECKOUT / "tests/fixtures/apps/notebooks/orders.py", source)
    text = source.joinpath("orders.py").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert text.startswith(block)
    date = f'exclude-newer = "{excluded_date()}"'
    text = text.replace("# ///\n\n", f"#\n# [tool.uv]\n# {date}\n# ///\n\n", 1)
    source.joinpath("orders.py").write_text(text, encoding="utf-8")
    uv = str(CHECKOUT / ".venv" / "bin" / "uv")
    for argv in (["init", "--bare", "-q"], ["lock", "-q"], ["lock", "-q", "--script", "orders.py"]):
        subprocess.run([uv, *argv], cwd=source, check=True)
    return source


@pytest.fixture(scope="module")
def marimo(provisioned: Bed, orders: pathlib.Path) -> Iterator[Application]:
    """The application, not deployed yet: first as an app, then edited."""
    app = Application(provisioned, "orders", orders, OTHER)
    app.variables = {"app_drain_seconds": 2, "app_stop_seconds": 5}
    yield app
    app.play("remove", variables={"app_remove_home": True}).succeeded()


def test_h4_marimo_run_shows_an_app_that_reacts(marimo: Application, page: Page) -> None:
    marimo.env = recipe("orders")
    marimo.deploy().succeeded()
    # The environment holds what the script's block says: humanize is nowhere else, and the project has no dependencies.
    assert "humanize" in marimo.host("ls /srv/pyfleet/orders/current/.venv/lib/python3*/site-packages")
    page.open(marimo.host.url(8080))
    page.until("document.body.innerText.includes('In words: 1.2 million')")
    page.run("document.querySelector('marimo-number').shadowRoot.querySelector('input').select()")
    page.write("2500000")
    page.press("Enter")
    page.until("document.body.innerText.includes('In words: 2.5 million')")


def test_h4_marimo_edit_runs_a_cell(marimo: Application, page: Page) -> None:
    marimo.env, host = recipe("studio"), marimo.host
    marimo.deploy().succeeded()
    assert status(host.url(8080, "/edit/api/status")) == 401
    # A browser goes on with the connections that it has, to the release before, until that has drained.
    host.wait_until("test $(systemctl list-units --plain --no-legend 'app-orders@*' | wc -l) = 1")
    page.open(host.url(8080, f"/edit?access_token={TOKEN}"))
    page.until(f"{CELLS}.length == 3")
    page.click("[data-cell-id] .cm-content", -1)
    page.press("a", control=True)
    page.write('f"In pairs: {humanize.intcomma(orders.value // 2)}"')
    page.press("Enter", control=True)
    page.until("document.body.innerText.includes('In pairs: 617,283')")
    page.press("s", control=True)
    host.wait_until("grep -q 'In pairs' /srv/pyfleet/orders/home/notebooks/orders.py")
    assert TOKEN not in host(
        "ps axww -o args; cat /etc/systemd/system/app-orders*; journalctl --no-pager -u 'app-orders@*'"
    )


def test_h4_marimo_as_a_server_of_the_host(provisioned: Bed) -> None:
    host = provisioned.host(OTHER)
    variables = {
        "notebook_kind": "marimo",
        "notebook_name": "files",
        "notebook_address": "127.0.0.1",
        "notebook_token": TOKEN,
    }
    try:
        made = play(provisioned, variables, OTHER, verbosity=3, diff=True).succeeded()
        assert TOKEN not in made.output + host("ps axww -o args; journalctl --no-pager -u notebook-files")
        assert host("curl -s -o /dev/null -w '%{http_code}' localhost:8888/tools/health") == "200"
        assert (
            host(f"curl -s -o /dev/null -w '%{{http_code}}' -u marimo:{TOKEN} localhost:8888/tools/api/status") == "200"
        )
        assert host("curl -s -o /dev/null -w '%{http_code}' localhost:8888/tools/api/status") == "401"
        assert play(provisioned, variables, OTHER).succeeded().changed == 0
        provisioned.cut(OTHER)
        host("systemctl restart notebook-files")
        host.wait_until("curl -sf localhost:8888/tools/health")
    finally:
        provisioned.uncut(OTHER)
        play(provisioned, {**variables, "notebook_state": "absent"}, OTHER).succeeded()
