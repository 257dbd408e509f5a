# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deployments behind a chain that fail: the contract's words, the failing hop's own, and the old release serving all the time."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Iterator

import pytest

from . import chains
from .chains import CHALLENGE, HOP, OAUTH2, VARNISH, Chained
from .conftest import FIXTURES, Application, Maker
from .test_failures import DEADLINE, LAST_WORDS, SOON, untouched

HOST = "bookworm1"
#: The watching clients ask `/`, which needs no challenge here.
ENV = {
    **CHALLENGE,
    "OTOROSHI_CHALLENGE_EXCLUDE_PATHS": "/",
    "CC_REQUEST_FLOW": "otoroshi-challenge,custom",
    "CC_REQUEST_FLOW_CUSTOM": HOP,
}
_versions = itertools.count(1)


@pytest.fixture(scope="module")
def deployed(make_module_app: Maker) -> Chained:
    """The application of this file, serving behind two hops."""
    app = make_module_app("frail", "echo", limit=HOST)
    app.env = {**chains.ECHO, **ENV}
    chained = Chained(app, (HOST,))
    app.deploy().succeeded()
    return chained


@pytest.fixture
def app(deployed: Chained) -> Application:
    """The application with a source like the fixture's but for the version."""
    app = deployed.app
    for name in ("server.py", "hop.py", "cache.vcl"):
        shutil.copy(FIXTURES / "echo" / name, app.source / name)
    app.change(f"new-{next(_versions)}")
    return app


@contextlib.contextmanager
def chain_untouched(app: Application) -> Iterator[None]:
    """Nothing of the release, of its chain or of the host's table changes, and it answers all the time."""

    slot = chains.slot(app.host, "frail")

    def chain() -> str:
        return app.host(
            "systemctl list-units --all --plain --no-legend 'app-frail-flow-*' | cut -d' ' -f1; nft list table inet pyfleet; "
            "ls /etc/systemd/system | grep frail; readlink "
            f"/etc/pyfleet/frail/flow@{slot} /etc/pyfleet/frail/flow@{slot}/../serving; "
            "for unit in $(systemctl list-units --plain --no-legend 'app-frail-flow-*' | cut -d' ' -f1); do "
            "systemctl show -p MainPID -p NRestarts $unit; done"
        )

    before = chain()
    with untouched(app):
        yield
    assert chain() == before


@pytest.mark.rule("E4", "E6", "F5")
def test_e4_a_hop_that_ends_at_its_start(app: Application) -> None:
    with chain_untouched(app):
        failed = app.deploy({"HOP": "exit"}, **SOON).failed()
    for word in ("The hop cannot start, as asked", "app-frail-flow-1-custom@", "Next step"):
        assert word in failed.message(), failed.message()


@pytest.mark.rule("E4", "F4")
def test_e4_a_hop_that_does_not_listen(app: Application) -> None:
    with chain_untouched(app):
        failed = app.deploy({"HOP": "deaf"}, **SOON).failed()
    assert "Some software are not listening as expected: 8081" in failed.message(), failed.message()


@pytest.mark.rule("E4", "F4")
def test_e4_an_application_on_the_wrong_port(app: Application) -> None:
    with chain_untouched(app):
        failed = app.deploy({"BEHAVIOUR": "wrong_port"}, **SOON).failed()
    assert "Some software are not listening as expected: 9000" in failed.message(), failed.message()


@pytest.mark.rule("E3", "E6")
def test_e3_an_unhealthy_application_behind_a_chain(app: Application) -> None:
    with chain_untouched(app):
        failed = app.deploy({"BEHAVIOUR": "unhealthy"}, **SOON).failed()
    for word in ("Health check failed:", "- GET /health returned 500.", LAST_WORDS):
        assert word in failed.output
    assert f"{DEADLINE}" in failed.output


@pytest.mark.rule("E3", "E4")
def test_e3_a_chain_that_does_not_let_the_check_through(app: Application) -> None:
    """The application is well, the way to it is not: the hop leads elsewhere."""
    hop = app.source / "hop.py"
    hop.write_text(hop.read_text().replace('("127.0.0.1", self.forward)', '("127.0.0.1", 9)'))
    with chain_untouched(app):
        failed = app.deploy(**SOON).failed()
    assert "- GET /health returned 502." in failed.message(), failed.message()


@pytest.mark.rule("E6", "F10")
def test_e6_a_program_that_is_not_there(app: Application) -> None:
    env = {"CC_REDIRECTIONIO_PROJECT_KEY": chains.KEY, "CC_REQUEST_FLOW": "otoroshi-challenge,redirectionio"}
    options = {"variables": {**SOON["variables"], "app_redirectionio_agent": "/usr/local/bin/no-such-agent"}}
    with chain_untouched(app):
        failed = app.deploy(env, **options).failed()
    assert "no-such-agent" in failed.message(), failed.message()
    assert chains.KEY not in failed.output


@pytest.mark.rule("E4", "D2")
def test_e4_a_port_of_the_chain_that_somebody_else_has(app: Application) -> None:
    slot = chains.slot(app.host, "frail")
    foreign = ({18080, 28080} - {slot}).pop() + 1
    app.host(f"systemd-run --quiet --unit=squatter python3 -m http.server {foreign}")
    try:
        app.host.wait_until(f"curl -s localhost:{foreign} >/dev/null")
        with chain_untouched(app):
            failed = app.deploy({"HOP": "another chain"}, **SOON).failed()
    finally:
        app.host("systemctl stop squatter")
    for word in (str(foreign), "python3", "Next step", "nothing was changed"):
        assert word in failed.message(), failed.message()


#: What is found before any host changes: variables, files, words of the message.
REFUSED: dict[str, tuple[dict[str, str], dict[str, str], list[str]]] = {
    "unknown service": ({"CC_REQUEST_FLOW": "nginx"}, {}, ["nginx", "otoroshi-challenge, varnish, redirectionio"]),
    "placeholder": ({"CC_REQUEST_FLOW_CUSTOM": "socat @@LISTEN_PORT@@"}, {}, ["@@FORWARD_PORT@@"]),
    "no vcl": ({"CC_REQUEST_FLOW": "varnish", "CC_VARNISH_FILE": "/no.vcl"}, {}, ["no.vcl", "CC_VARNISH_FILE"]),
    "own backend": (
        {"CC_REQUEST_FLOW": "varnish", **VARNISH},
        {"cache.vcl": 'backend mine { .host = "192.0.2.1"; }\n'},
        ["cache.vcl", "backend mine (line 1)"],
    ),
    "storage": ({"CC_REQUEST_FLOW": "varnish", **VARNISH, "CC_VARNISH_STORAGE_SIZE": "900T"}, {}, ["900T", "memory"]),
    "oauth2-proxy": (
        {
            **OAUTH2,
            "CC_REQUEST_FLOW": "oauth2-proxy",
            "OAUTH2_PROXY_COOKIE_SECRET": "of-a-wrong-size",
            "OAUTH2_PROXY_EMAIL_DOMAINS": "",
        },
        {},
        ["OAUTH2_PROXY_COOKIE_SECRET", "16, 24 or 32", "OAUTH2_PROXY_EMAIL_DOMAINS"],
    ),
    "no secret": ({"OTOROSHI_CHALLENGE_SECRET": ""}, {}, ["OTOROSHI_CHALLENGE_SECRET"]),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.rule("F1", "F5", "F8", "F9", "F11")
def test_f_refused_before_any_host_changes(app: Application, case: str) -> None:
    env, files, words = REFUSED[case]
    for path, text in files.items():
        chains.write(app, path, text)
    state = app.host("find /etc/pyfleet/frail /srv/pyfleet/frail -xdev | sort | sha256sum")
    failed = app.deploy(env).failed()
    for word in [*words, "Next step", "nothing was changed"]:
        assert word in failed.message(), failed.message()
    assert "of-a-wrong-size" not in failed.output
    assert failed.changed == 0
    assert app.host("find /etc/pyfleet/frail /srv/pyfleet/frail -xdev | sort | sha256sum") == state
    assert app.version()


def test_after_all_failures_the_corrected_deployment_succeeds(app: Application) -> None:
    app.deploy().succeeded()
    assert app.version() == (app.source / "VERSION").read_text().strip()
    chains.settle(app.host, ["otoroshi-challenge", "custom"], "frail")
