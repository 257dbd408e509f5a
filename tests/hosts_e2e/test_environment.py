# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The application's environment on real hosts: every byte arrives (D6), and no secret shows anywhere (I)."""

from __future__ import annotations

import pytest

from ansible_collections.pyfleet.runtime.tests.hosts_e2e.conftest import Application, Maker

VALUES = {
    "D6_NEWLINES": "one\ntwo\n\nfour\n",
    "D6_QUOTES": """both ' and " and '"'"'""",
    "D6_DOLLAR": "$HOME ${HOME} $(id) `id` $$",
    "D6_PERCENT": "%i %% %n 100%",
    "D6_BACKSLASH": "\\ \\\\ \\n \\t ends with \\",
    "D6_UTF8": "Grüße, 世界 🚀 \u202e",
    "D6_CONTROL": "tab\tcarriage\rescape\x1b[31m bell\x07",
    "D6_SPACES": "  around  ",
    "D6_HASH": "# not a comment ; neither",
    "D6_EMPTY": "",
    "D6_EQUALS": "a=b=c",
    "D6_LINE_END": "continued\\\nnext",
    "D6_LONG": "x" * 100_000,
}
SECRETS = {
    "DATABASE_URL": "postgres://shop:unders3al-s3cret@db.example.org/shop",
    "API_TOKEN": "unders3al-t0ken-0123456789",
    "CERTIFICATE": "-----BEGIN-----\nunders3alC3rtificateLine0123456789\n-----END-----\n",
}
BUILD_SECRETS = {"UV_INDEX_PRIVATE_USERNAME": "unders3al-us3r", "UV_INDEX_PRIVATE_PASSWORD": "unders3al-ind3x-password"}
PLANTED = "unders3al"


@pytest.mark.parametrize("host", ["bullseye1", "bookworm1", "trixie1", "forky1"])
def test_d6_values_arrive_byte_for_byte(make_app: Maker, host: str) -> None:
    app = make_app("bytes", limit=host)
    app.deploy(VALUES).succeeded()
    received = app.environment()
    assert {name: received.get(name) for name in VALUES} == {name: value.encode() for name, value in VALUES.items()}


@pytest.mark.rule("I", "B8")
def test_i_no_secret_on_screen_on_the_host_or_in_a_release(app: Application) -> None:
    hook = 'echo "the token is $API_TOKEN, the index\'s $UV_INDEX_PRIVATE_PASSWORD"'
    env = {
        **SECRETS,
        **BUILD_SECRETS,
        "CC_PRE_BUILD_HOOK": hook,
        "CC_PRE_RUN_HOOK": hook,
        "CC_RUN_SUCCEEDED_HOOK": hook,
    }
    screen = app.deploy(env, verbosity=4, diff=True).succeeded().output
    screen += app.play("plan", env, verbosity=4, diff=True).succeeded().output
    screen += app.play("status", env, verbosity=4).succeeded().output
    # A release that prints its secrets and dies: its last words are shown, without them.
    app.change("2.0.0")
    dying = {**env, "CC_PYTHON_UV_RUN_COMMAND": "env; exit 3", "CC_RUN_FAILED_HOOK": hook}
    failed = app.deploy(dying, verbosity=4, diff=True, variables={"app_health_deadline": 10}).failed()
    screen += failed.output
    screen += app.deploy({**dying, "CC_PRE_RUN_HOOK": f"{hook}; exit 1"}, verbosity=4).failed().output
    screen += app.deploy({**dying, "CC_PRE_BUILD_HOOK": f"{hook}; exit 1"}, verbosity=4).failed().output
    screen += app.play("rollback", env, verbosity=4, diff=True, variables={"app_release": "0" * 12}).failed().output
    assert "the token is" in screen, "the hooks' output is shown, so that there was something to hide"
    assert [line for line in screen.splitlines() if PLANTED in line] == []

    host = app.host
    shown = host("systemctl show 'app-shop@*' app-shop.target; systemctl cat 'app-shop@*'; ps axww -o args")
    assert PLANTED not in shown
    searched = "/srv/pyfleet/shop/releases /etc/systemd /run/systemd /var/lib/pyfleet /run/pyfleet"
    assert host.run(f"grep -rl {PLANTED} {searched}", check=False).stdout == ""
    # The journal holds what the application itself printed, and the hooks of ours print nothing there.
    ours = host.run(f"journalctl --no-pager | grep {PLANTED} | grep -v 'run\\[' || true").stdout
    assert ours == ""
    holding = host.run(f"grep -rl {PLANTED} /etc/pyfleet", check=False).stdout.split()
    assert holding, "the running release has its environment"
    for path in holding:
        assert path.endswith("/environment"), path
        assert host(f"stat -c '%a %U' {path}") == "600 root"
    assert host.run("grep -rl unders3al-ind3x /etc/pyfleet /srv/pyfleet", check=False).stdout == ""
    assert app.environment()["API_TOKEN"] == SECRETS["API_TOKEN"].encode()
    assert "UV_INDEX_PRIVATE_PASSWORD" not in app.environment()
    assert host.run("cat /proc/$(pgrep -u app-shop -n .)/environ", user="deploy", check=False).rc != 0


@pytest.mark.rule("D5", "D2")
def test_d5_the_platforms_own_variables(app: Application) -> None:
    app.deploy().succeeded()
    release = app.linked()
    received = {name: value.decode() for name, value in app.environment().items()}
    commit = received["COMMIT_ID"]
    expected = {
        "APP_ID": "app-shop",
        "APP_HOME": f"/srv/pyfleet/shop/releases/{release}",
        "CC_APP_NAME": "shop",
        "CC_COMMIT_ID": commit,
        "INSTANCE_NUMBER": "0",
        "INSTANCE_TYPE": "production",
        "PORT": str(app.json()["port"]),
        "UV_NO_SYNC": "1",
    }
    assert {name: received.get(name) for name in expected} == expected
    assert {"CC_DEPLOYMENT_ID", "INSTANCE_ID", "CC_PRETTY_INSTANCE_NAME"} <= set(received)
