# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Request Flow with real traffic: every service alone, then together in several orders. One application, one chain after the other.

The chains are deployed in the order of the file, on both hosts at once; a test that finds its chain deployed does not deploy again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest

from ansible_collections.pyfleet.runtime.tests.unit.flow.proxies import claims, sign, verified

from . import chains
from .chains import ANSWER, BOTH, CHAINS, HEADER, SECRET, SECRETS, SIGNED_IN, Chained
from .conftest import Application, Maker

pytestmark = pytest.mark.parametrize("host", BOTH)


@pytest.fixture(scope="module")
def flow(make_module_app: Maker) -> Chained:
    """The application, behind nothing yet."""
    app = make_module_app("flow", "echo", limit=",".join(BOTH))
    app.env = dict(chains.ECHO)
    for name in BOTH:
        chains.install_agent(app.bed.host(name))
        chains.install_socat(app.bed.host(name))
    return Chained(app)


@pytest.fixture
def challenge(flow: Chained) -> Chained:
    """Behind the challenge alone."""
    flow.wear("challenge")
    return flow


def on(flow: Chained, host: str) -> Application:
    """The application; a mistake in a test would ask the other host."""
    assert host in flow.hosts
    return flow.app


# -- otoroshi-challenge ----------------------------------------------------------------------------------------------------------


@pytest.mark.rule("F9", "F2", "F4")
def test_f9_a_signed_request_passes_and_its_answer_is_signed(challenge: Chained, host: str) -> None:
    before = int(time.time())
    token = sign(claims(state="abc"), SECRET.encode())
    answer = challenge.app.ask("/headers?a=1", host=host, headers={HEADER: token, "Host": "shop.example:81"})
    got = verified(answer.headers[ANSWER], SECRET.encode())
    assert set(got) == {"aud", "iat", "nbf", "exp", "state-resp"}
    assert (got["aud"], got["state-resp"]) == ("Otoroshi", "abc")
    assert before - 2 <= got["iat"] == got["nbf"] <= int(time.time()) + 2
    assert got["exp"] == got["iat"] + 30
    assert chains.sent(answer, "Host") == ["shop.example:81"]
    assert chains.sent(answer, HEADER) == [], "the challenge does not reach the application"
    assert len(chains.sent(answer, "X-Forwarded-For")) == 1
    assert chains.services(challenge.app.bed.host(host)) == ["otoroshi-challenge"]


@pytest.mark.rule("F9")
def test_f9_health_paths_pass_without_a_challenge(challenge: Chained, host: str) -> None:
    app = challenge.app
    for path in ("/health", "/health/", "/health?deep=1"):
        for method in ("GET", "HEAD"):
            answer = app.ask(path, host=host, method=method)
            assert (answer.status, ANSWER in answer.headers) == (404 if path == "/health/" else 200, False)
    assert chains.error(app.ask("/health", host=host, method="POST")) == "Missing Otoroshi-State header"
    assert chains.error(app.ask("/health/deep", host=host)) == "Missing Otoroshi-State header"
    forged = {HEADER: sign(claims(), b"guessed")}
    assert chains.error(app.ask("/health", host=host, headers=forged)).endswith("InvalidSignature")


def signed(**changes: object) -> Callable[[], str]:
    """Makes a challenge with other claims than the usual ones."""
    return lambda: sign(claims(**changes), SECRET.encode())


REJECTED: list[tuple[str, Callable[[], str] | None, str]] = [
    ("no header", None, "Missing Otoroshi-State header"),
    ("another secret", lambda: sign(claims(), b"guessed"), "JWT verification failed: InvalidSignature"),
    ("another issuer", signed(iss="somebody"), "JWT verification failed: InvalidIssuer"),
    ("no issuer", signed(iss=None), "JWT verification failed: InvalidIssuer"),
    ("expired", signed(exp=1), "JWT verification failed: ExpiredSignature"),
    ("exp is a word", signed(exp="never"), "JWT verification failed: ExpiredSignature"),
    ("no exp", signed(exp=None), "JWT verification failed: Missing required claim: exp"),
    ("no state", signed(state=None), "JWT verification failed: Missing required claim: state"),
    ("no token", lambda: "hello", "JWT verification failed: InvalidToken"),
    ("empty", lambda: "", "JWT verification failed: InvalidToken"),
    (
        "HS256",
        lambda: sign(claims(), SECRET.encode(), "HS256", "sha256"),
        "JWT verification failed: InvalidToken",
    ),
    (
        "alg none",
        lambda: sign(claims(), SECRET.encode(), "none").rpartition(".")[0] + ".",
        "JWT verification failed: InvalidToken",
    ),
]


@pytest.mark.parametrize(("make", "why"), [case[1:] for case in REJECTED], ids=[case[0] for case in REJECTED])
@pytest.mark.rule("F9")
def test_f9_rejections(challenge: Chained, host: str, make: Callable[[], str] | None, why: str) -> None:
    headers = {HEADER: make()} if make is not None else {}
    for method in ("GET", "POST"):
        assert chains.error(challenge.app.ask("/headers", host=host, method=method, headers=headers)) == why


@pytest.mark.rule("F9")
def test_f9_the_leeway_and_what_is_not_required(challenge: Chained, host: str) -> None:
    for changes in ({"exp": int(time.time()) - 6}, {"aud": "else", "nbf": 4102444800, "iat": 4102444800}):
        token = sign(claims(**changes), SECRET.encode())
        assert challenge.app.ask("/version", host=host, headers={HEADER: token}).status == 200


@pytest.mark.rule("F9")
def test_f9_web_sockets_host_and_streams_pass(challenge: Chained, host: str) -> None:
    chains.passes_everything(challenge, host, {HEADER: sign(claims(), SECRET.encode())})


# -- the other services alone ------------------------------------------------------------------------------------------------------


@pytest.mark.rule("F8", "F2")
def test_f8_varnish_caches(flow: Chained, host: str) -> None:
    flow.wear("varnish")
    answers = [on(flow, host).ask("/cached/a", host=host) for _ in range(3)]
    assert [answer.headers["X-Cache"] for answer in answers] == ["miss", "hit", "hit"]
    assert {answer.json()["count"] for answer in answers} == {1}
    assert len(answers[2].headers["X-Varnish"].split()) == 2
    passed = flow.app.ask("/headers", host=host, headers={"Host": "shop.example:81"})
    assert (passed.headers["X-Vcl"], chains.sent(passed, "Host")) == ("one", ["shop.example:81"])


@pytest.mark.rule("F6")
def test_f6_block_answers_everything_and_the_application_runs(flow: Chained, host: str) -> None:
    flow.wear("block")
    to = flow.app.bed.host(host)
    for method, path in (("GET", "/"), ("POST", "/headers"), ("GET", "/no/such?page"), ("DELETE", "/version")):
        answer = on(flow, host).ask(path, host=host, method=method)
        assert (answer.status, answer.body, answer.headers["Content-Type"]) == (200, b"OK", "text/plain")
    assert chains.services(to) == ["block"], "the challenge that is detected is ignored"
    assert '"version"' in to("curl -s --max-time 3 localhost:9000/version")
    assert "flow: healthy" in flow.app.play("status", limit=host).succeeded().stdout


@pytest.mark.rule("F6")
def test_f6_block_second_run(flow: Chained, host: str) -> None:
    assert flow.deploy("block", limit=host).succeeded().changed == 0


@pytest.mark.rule("F5", "F4")
def test_f5_a_real_program_as_custom(flow: Chained, host: str) -> None:
    flow.wear("custom")
    to = flow.app.bed.host(host)
    first = chains.slot(to)
    assert "socat" in to(f"ss -Hltnp 'sport = {first}'")
    assert f"TCP-LISTEN:{first},fork" in to("pgrep -a socat")
    assert to("ps -o user:20= -C socat | sort -u") == "app-flow"
    chains.passes_everything(flow, host, {})


@pytest.mark.rule("F11")
def test_f11_a_stand_in_for_oauth2_proxy(flow: Chained, host: str) -> None:
    flow.wear("oauth2-proxy")
    app = on(flow, host)
    assert app.ask("/version", host=host).status == 403
    assert app.ask("/health", host=host).status == 200
    assert app.ask("/ping", host=host).body == b"OK"
    answer = app.ask("/headers", host=host, headers=SIGNED_IN)
    assert chains.sent(answer, "X-Forwarded-User") == ["stand-in"]
    to = app.bed.host(host)
    assert to("ls /opt/pyfleet/bin | grep -c '^oauth2-proxy-[0-9a-f]*$'") == "1"


@pytest.mark.rule("F10", "F2")
def test_f10_a_stand_in_for_the_agent_of_redirectionio(flow: Chained, host: str) -> None:
    flow.wear("redirectionio")
    answer = on(flow, host).ask("/headers", host=host)
    assert chains.sent(answer, "X-Redirectionio-Instance") == ["flow"], "by default the application's name"
    assert chains.sent(answer, "X-Redirectionio-Generation") == ["2"]


# -- together ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.rule("F2", "F4")
def test_f2_all_three_detected_in_the_default_order(flow: Chained, host: str) -> None:
    flow.wear("detected")
    app, to = on(flow, host), flow.app.bed.host(host)
    assert chains.services(to) == CHAINS["detected"][1]
    assert chains.error(app.ask("/cached/three", host=host)) == "Missing Otoroshi-State header"
    first, second = (flow.ask("/cached/three", host) for _ in range(2))
    assert [first.headers["X-Cache"], second.headers["X-Cache"]] == ["miss", "hit"]
    assert chains.error(app.ask("/cached/three", host=host)) == "Missing Otoroshi-State header", "never from the cache"
    seen = flow.ask("/headers", host)
    assert chains.sent(seen, "X-Redirectionio-Instance") == ["flow"]
    assert chains.sent(seen, HEADER) == []
    (forwarded,) = chains.sent(seen, "X-Forwarded-For")
    assert "," not in forwarded, "the client alone, without this host's own hops"
    # F4's ports, on the host: what is called there has passed the hops before it.
    assert "X-Redirectionio-Instance" not in to("curl -s localhost:9000/headers")
    assert "X-Redirectionio-Instance" in to("curl -s localhost:8082/headers")
    assert "X-Vcl: one" in to("curl -s -D- -o /dev/null localhost:8081/version")
    assert to("curl -s -o /dev/null -w '%{http_code}' localhost:8080/version") == "401"


@pytest.mark.rule("F3")
def test_f3_the_order_reversed(flow: Chained, host: str) -> None:
    flow.wear("reversed")
    app, to = on(flow, host), flow.app.bed.host(host)
    chains.settle(to, CHAINS["reversed"][1])
    assert chains.error(app.ask("/version", host=host)) == "Missing Otoroshi-State header"
    assert flow.ask("/cached/reversed", host).headers["X-Cache"] == "miss"
    again = app.ask("/cached/reversed", host=host)
    assert (again.status, again.headers["X-Cache"]) == (200, "hit"), "Varnish stands before the challenge"
    assert chains.sent(flow.ask("/headers", host), "X-Redirectionio-Instance") == ["flow"]


@pytest.mark.rule("F5", "F3")
def test_f5_custom_between_two_others(flow: Chained, host: str) -> None:
    flow.wear("custom between")
    to = flow.app.bed.host(host)
    chains.settle(to, CHAINS["custom between"][1])
    answer = flow.ask("/headers", host)
    assert (answer.headers["X-Vcl"], chains.sent(answer, "X-Custom-Hop")) == ("one", ["1.0.0"])
    assert chains.sent(answer, HEADER) == []
    assert chains.error(on(flow, host).ask("/headers", host=host)) == "Missing Otoroshi-State header"


@pytest.mark.rule("F14", "I")
def test_f14_no_secret_is_seen(flow: Chained, host: str) -> None:
    """All services at once, deployed with everything that Ansible can say."""
    to = flow.app.bed.host(host)
    if flow.name != "all":
        flow.name = ""
        flow.app.change("1.1.0")
        played = flow.deploy("all", verbosity=4, diff=True).succeeded()
        flow.name = "all"
        for secret in SECRETS:
            assert secret not in played.output
            assert secret.replace('"', '\\"') not in played.output
    chains.settle(to, CHAINS["all"][1])
    answer = flow.ask("/headers", host, headers=SIGNED_IN)
    assert chains.sent(answer, "X-Custom-Hop") == ["1.1.0"], "a program of the project is the new release's"
    shown = to.run(
        "cat /proc/[0-9]*/cmdline | tr '\\0' ' '; cat /etc/systemd/system/app-flow* /run/systemd/transient/* 2>/dev/null; "
        "systemctl show --no-pager 'app-flow*'; journalctl -q --no-pager -b; "
        "find /etc/pyfleet /srv/pyfleet/flow -type f -perm /044 -exec cat {} +",
        timeout=120,
    ).stdout
    for secret in SECRETS:
        assert secret not in shown, secret
    assert re.findall("-----BEGIN [A-Z ]*PRIVATE KEY.*", shown) == []


@pytest.mark.rule("F3")
def test_f3_second_run(flow: Chained, host: str) -> None:
    flow.wear("all")
    assert flow.deploy("all", limit=host).succeeded().changed == 0


@pytest.mark.rule("F7")
def test_f7_disable(flow: Chained, host: str) -> None:
    flow.wear("disable")
    app, to = on(flow, host), flow.app.bed.host(host)
    answer = app.ask("/headers", host=host, headers={HEADER: "whatever"})
    assert chains.sent(answer, HEADER) == ["whatever"]
    assert "X-Vcl" not in answer.headers
    to.wait_until('test -z "$(ls /etc/systemd/system | grep app-flow-flow-)"', 20)
    assert chains.traces(to) == ""
