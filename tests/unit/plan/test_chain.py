# Copyright: (c) 2026, the pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Section F in the plan: what each service of the chain is told, the ports around it, and every error before a host changes."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.pyfleet.runtime.plugins.module_utils import chain_settings, varnish
from ansible_collections.pyfleet.runtime.plugins.module_utils.plan import make_plan, public_view
from ansible_collections.pyfleet.runtime.plugins.plugin_utils import deployment
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.source import Source
from ansible_collections.pyfleet.runtime.tests.unit.flow import proxies

from .support import Plan, ask, codes, legacy, only

SECRET = "0123456789abcdef0123456789abcdef"
VCL = "clevercloud/varnish.vcl"
DIGEST = "0f" * 32
OAUTH2 = {
    "CC_REQUEST_FLOW": "oauth2-proxy",
    "OAUTH2_PROXY_CLIENT_ID": "shop",
    "OAUTH2_PROXY_CLIENT_SECRET": "cl13nt-s3cret",
    "OAUTH2_PROXY_COOKIE_SECRET": "0123456789abcdef",
    "OAUTH2_PROXY_EMAIL_DOMAINS": "example.com",
}
PROGRAMS = {"oauth2_proxy": "/usr/local/bin/oauth2-proxy", "redirectionio_agent": "/usr/local/bin/redirectionio-agent"}
CUSTOM = "/usr/bin/proxy --listen @@LISTEN_PORT@@ --to @@FORWARD_PORT@@"


def chain(env: dict[str, Any], vcl: str | None = "", **more: Any) -> dict[str, Any]:
    """The plan of an application in uv mode with a VCL (None: without), and the two programs on the hosts."""
    files = ["uv.lock", "pyproject.toml", "bin/proxy", *([] if vcl is None else [VCL])]
    app = {**PROGRAMS, **more.pop("app", {})}
    return ask(env, files=files, texts={} if vcl is None else {VCL: vcl}, app=app, **more)


def challenge(env: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return chain({"CC_REQUEST_FLOW": "otoroshi-challenge", "OTOROSHI_CHALLENGE_SECRET": SECRET, **(env or {})}, **more)


def oauth2(env: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return chain({**OAUTH2, **(env or {})}, **more)


def varnished(env: dict[str, Any] | None = None, vcl: str | None = "", **more: Any) -> dict[str, Any]:
    return chain({"CC_REQUEST_FLOW": "varnish", **(env or {})}, vcl, **more)


def agent(env: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    base = {"CC_REQUEST_FLOW": "redirectionio", "CC_REDIRECTIONIO_PROJECT_KEY": "pr0ject:key-value"}
    return chain({**base, **(env or {})}, **more)


def told(plan: dict[str, Any], service: str) -> dict[str, Any]:
    assert plan["errors"] == []
    found: dict[str, Any] = plan["chain"]["settings"][service]
    return found


# -- ports -----------------------------------------------------------------------------------------------------------------


def layer(kind: str, call: int, *candidates: int) -> dict[str, Any]:
    return {"kind": kind, "call": call, "candidates": list(candidates)}


COMMAND = {"CC_PYTHON_MODULE": None, "CC_RUN_COMMAND": "x --port $PORT"}
IN_PLACE = {"CC_PYTHON_UV_RUN_COMMAND": "uv run x"}
BLOCK = {"CC_REQUEST_FLOW": "block"}
TWO = {
    "CC_REQUEST_FLOW": "otoroshi-challenge,custom",
    "OTOROSHI_CHALLENGE_SECRET": SECRET,
    "CC_REQUEST_FLOW_CUSTOM": CUSTOM,
}


@pytest.mark.rule("F4", "F13", "D2")
@pytest.mark.parametrize(
    ("plan", "inner", "behind"),
    [
        (chain({}, None), [], []),
        (legacy(), [], []),
        (legacy(COMMAND), [], [layer("application", 9000, 19000, 29000)]),
        (legacy({**COMMAND, "CC_RUN_COMMAND": "x"}), [], [layer("application", 9000, 9000)]),
        (chain(BLOCK), [9000, 39000], [layer("application", 9000, 19000, 29000)]),
        (chain({**BLOCK, **IN_PLACE}), [9000, 39000], [layer("application", 9000, 9000)]),
        (chain({**BLOCK, "PORT": "7000"}), [9000, 39000], [layer("application", 7000, 7000)]),
        (chain(TWO), [9000, 39000], [layer("application", 9000, 19000, 29000)]),
        (legacy(TWO), [9000, 39000], [layer("nginx", 9000, 19000, 29000)]),
        (
            legacy({**TWO, **COMMAND}),
            [8082, 39000],
            [layer("nginx", 8082, 18082, 28082), layer("application", 9000, 19000, 29000)],
        ),
        (
            legacy({**BLOCK, **COMMAND, "CC_RUN_COMMAND": "x"}),
            [8081, 39000],
            [layer("nginx", 8081, 18081, 28081), layer("application", 9000, 9000)],
        ),
        (
            legacy({**TWO, "CC_PYTHON_MODULE": None, "CC_PYTHON_CELERY_MODULE": "a"}, {"requirements.txt": "celery"}),
            [9000, 39000],
            [layer("nginx", 9000, 19000, 29000)],
        ),
    ],
)
def test_f4_f13_what_stands_behind_the_outermost_station(
    plan: dict[str, Any], inner: list[int], behind: list[dict[str, Any]]
) -> None:
    assert plan["errors"] == []
    assert (plan["ports"]["inner"], plan["ports"]["behind"]) == (inner, behind)
    # The chain, Nginx, or a release itself: each has two ports to change between.
    assert plan["ports"]["candidates"] == [18080, 28080]
    if inner:
        assert plan["chain"]["hops"][-1]["forward"] in (behind[0]["call"], None)


def test_d2_f4_port_behind_a_chain() -> None:
    assert chain({**BLOCK, **IN_PLACE})["environment"]["PORT"] == "9000"
    assert "PORT" not in chain(BLOCK)["environment"]
    assert chain({**BLOCK, "PORT": "7000"})["environment"]["PORT"] == "7000"
    behind_nginx = legacy({**BLOCK, **COMMAND, "CC_RUN_COMMAND": "x"})
    assert (behind_nginx["environment"]["PORT"], behind_nginx["server"]["nginx"]["upstream"]) == (
        "9000",
        "127.0.0.1:9000",
    )


@pytest.mark.parametrize(
    ("app", "code", "variable", "port"),
    [
        ({"port": 8081}, "ports_collide", "app_port", "8081"),
        ({"port": 18081}, "ports_collide", "app_port", "18081"),
        ({"port": 8080}, "ports_collide", "app_port", "8080"),
        ({"port": 35536}, "port_derived", "app_port", "65536"),
        ({"public_port": 39000}, "ports_collide", "app_port", "39000"),
        ({"public_port": 45535}, "port_derived", "app_public_port", "65536"),
        ({"release_ports": [18080, 18081]}, "ports_collide", "app_release_ports", "18081"),
        ({"release_ports": [18080, 19000]}, "ports_collide", "app_port", "19000"),
        ({"release_ports": [18080, 65535]}, "port_derived", "app_release_ports", "65536"),
    ],
)
def test_f4_every_port_of_a_chain_is_checked(app: dict[str, Any], code: str, variable: str, port: str) -> None:
    found = [item for item in chain(TWO, app=app)["errors"] if item["code"] == code and item["value"] == port]
    assert [item["variable"] for item in found] == [variable]


@pytest.mark.parametrize("port", ["8081", "18081", "19000", "39000"])
def test_d2_f4_port_of_the_environment_is_none_of_the_chain(port: str) -> None:
    expected = [] if port == "19000" else ["ports_collide"]
    assert codes(chain({**TWO, "PORT": port})["errors"]) == expected


@pytest.mark.parametrize("port", [8081, 9000, 39000, 18081, 28080, 19000, 29000])
def test_f4_a_chains_ports_belong_to_nobody_else(port: int) -> None:
    taken = chain(TWO, host={"apps": {"other": {"ports": [port]}}})
    assert only(taken["errors"], "port_taken_by_app")["value"] == str(port)
    listener = {"port": port, "address": "0.0.0.0", "process": "squid"}
    assert only(chain(TWO, host={"listeners": [listener]})["errors"], "port_in_use")["value"] == str(port)
    own = {"port": port, "address": "127.0.0.1", "process": "haproxy", "unit": "app-shop-flow-1-custom@18080.service"}
    assert chain(TWO, host={"listeners": [own]})["errors"] == []
    if port in (
        18081,
        28080,
        19000,
        29000,
    ):  # who listens is not always told; the others are called, and nobody listens there
        unnamed = {"listeners": [listener], "current": {"id": "0" * 12, "port": 18080}}
        assert chain(TWO, host=unnamed)["errors"] == []


def test_f6_block_is_asked_alone() -> None:
    plan = chain({**BLOCK, "CC_HEALTH_CHECK_PATH": "/health"})
    assert (plan["health"]["paths"], plan["health"]["accept"]) == (["/"], "200")
    assert chain(BLOCK, app={"health_accept_2xx": True})["health"]["accept"] == "200"
    assert plan["chain"]["settings"] == {"block": {}}
    assert any("200 OK to everything" in line for line in plan["summary"])


def test_f1_a_task_has_no_chain() -> None:
    plan = chain({**TWO, "CC_TASK": "true", "CC_RUN_COMMAND": "uv run job"})
    assert (plan["errors"], plan["chain"]["active"], plan["chain"]["settings"]) == ([], False, {})


def test_f4_the_summary_draws_the_chain() -> None:
    env = {"OTOROSHI_CHALLENGE_SECRET": SECRET, "CC_REDIRECTIONIO_PROJECT_KEY": "k3y"}
    lines = chain(env)["summary"]
    assert "Chain        8080 otoroshi-challenge → 8081 varnish (1G) → 8082 redirectionio → 9000 application" in lines
    assert any(
        "public 8080 → chain on 18080 or 28080 → application on 9000 → release on 19000 or 29000" in x for x in lines
    )
    drawn = legacy({**BLOCK, "CC_REQUEST_FLOW": "custom", "CC_REQUEST_FLOW_CUSTOM": CUSTOM})["summary"]
    assert "Chain        8080 custom → 9000 Nginx → application (socket)" in drawn


# -- otoroshi-challenge ----------------------------------------------------------------------------------------------------


def test_f9_the_secret_is_taken_byte_for_byte() -> None:
    secret = "é\" '$x\n" + SECRET
    (only_one,) = told(challenge({"OTOROSHI_CHALLENGE_SECRET": secret}), "otoroshi-challenge")["secrets"]
    assert only_one == {"key": base64.b64encode(secret.encode()).decode(), "until": None}


@pytest.mark.parametrize("secret", [None, "", " \n"])
def test_f9_a_chain_with_the_challenge_needs_the_secret(secret: str | None) -> None:
    assert codes(challenge({"OTOROSHI_CHALLENGE_SECRET": secret})["errors"]) == ["challenge_secret_missing"]


@pytest.mark.parametrize(
    ("secret", "errors", "warnings"),
    [
        ("p4ss", [], ["challenge_secret_short"]),
        (SECRET + "\n", [], ["challenge_secret_blank"]),
        ("x" * 1025, ["challenge_secret_long"], []),
        ("é" * 512, [], []),
        (SECRET, [], []),
    ],
)
def test_f9_a_secret_that_can_be_guessed_or_does_not_fit(secret: str, errors: list[str], warnings: list[str]) -> None:
    plan = challenge({"OTOROSHI_CHALLENGE_SECRET": secret})
    assert (codes(plan["errors"]), codes(plan["warnings"])) == (errors, warnings)
    assert secret.strip() not in json.dumps(plan["errors"] + plan["warnings"], ensure_ascii=False)


@pytest.mark.parametrize(
    ("until", "seconds"),
    [
        ("2026-11-20T03:30:00Z", 1795145400),
        ("2026-11-20 03:30:00+00:00", 1795145400),
        ("2026-11-20T04:30+01:00", 1795145400),
        ("2026-11-20T04:30:00+0100", 1795145400),
    ],
)
def test_f9_the_secret_before_is_accepted_until_a_time(until: str, seconds: int) -> None:
    app = {"challenge_previous_secret": "before-" + SECRET, "challenge_previous_until": until}
    secrets = told(challenge(app=app), "otoroshi-challenge")["secrets"]
    assert secrets[1] == {"key": base64.b64encode(b"before-" + SECRET.encode()).decode(), "until": seconds}
    assert secrets[0]["until"] is None


@pytest.mark.parametrize(
    ("before", "until", "errors", "warnings"),
    [
        ("before-" + SECRET, "", ["challenge_until_invalid"], []),
        ("before-" + SECRET, "tomorrow", ["challenge_until_invalid"], []),
        ("before-" + SECRET, "2026-11-20T03:30:00", ["challenge_until_invalid"], []),
        ("before-" + SECRET, "2026-02-30T03:30:00Z", ["challenge_until_invalid"], []),
        ("before-" + SECRET, "0001-01-01T00:00:00+23:59", ["challenge_until_invalid"], []),
        ("before-" + SECRET, "2026-11-19T03:30:00Z", [], ["challenge_until_past"]),
        ("", "2026-11-20T03:30:00Z", [], ["challenge_until_alone"]),
        (SECRET, "2026-11-20T03:30:00Z", [], ["challenge_previous_same"]),
        (["x"], "2026-11-20T03:30:00Z", ["challenge_previous_invalid"], []),
        (" ", "2026-11-20T03:30:00Z", ["challenge_previous_invalid"], []),
    ],
)
def test_f9_an_overlap_that_cannot_be(before: Any, until: str, errors: list[str], warnings: list[str]) -> None:
    plan = challenge(app={"challenge_previous_secret": before, "challenge_previous_until": until})
    assert (codes(plan["errors"]), codes(plan["warnings"])) == (errors, warnings)
    assert "before-" not in json.dumps([plan["errors"], plan["warnings"], public_view(plan)])


def test_f9_paths_without_a_challenge() -> None:
    env = {
        "OTOROSHI_CHALLENGE_EXCLUDE_PATHS": " /a , /b/?x=1,,/été,/it's",
        "CC_HEALTH_CHECK_PATH": "/health?full=1",
        "CC_HEALTH_CHECK_PATH_0": "/a",
    }
    plan = challenge(env)
    assert told(plan, "otoroshi-challenge")["exclude"] == ["/a", "/b/", "/%C3%A9t%C3%A9", "/it's", "/health"]
    # The root that is checked when no path is set stays behind the challenge: the check signs its own.
    assert told(challenge(), "otoroshi-challenge")["exclude"] == []


@pytest.mark.parametrize("path", ["a", "/a b", "/a\nb", "/a#b", "/" + "x" * 512])
def test_f9_a_path_that_can_match_no_request(path: str) -> None:
    error = only(challenge({"OTOROSHI_CHALLENGE_EXCLUDE_PATHS": f"/ok,{path}"})["errors"], "challenge_path_invalid")
    assert error["variable"] == "OTOROSHI_CHALLENGE_EXCLUDE_PATHS"


def test_f9_a_pattern_is_no_pattern() -> None:
    plan = challenge({"OTOROSHI_CHALLENGE_EXCLUDE_PATHS": "/api/*"})
    assert codes(plan["warnings"]) == ["challenge_path_pattern"]


@pytest.mark.parametrize(
    ("host", "service", "says"),
    [
        ({"haproxy": "2.6.12", "distribution": "debian", "release": "12"}, "otoroshi-challenge", ""),
        ({"haproxy": "2.10", "distribution": "debian", "release": "11"}, "otoroshi-challenge", ""),
        ({"haproxy": "", "distribution": "debian", "release": "13"}, "otoroshi-challenge", ""),
        ({"haproxy": "2.4.1"}, "otoroshi-challenge", "this host has HAProxy 2.4"),
        (
            {"haproxy": "", "distribution": "debian", "release": "11"},
            "otoroshi-challenge",
            "Debian 11 brings HAProxy 2.2",
        ),
        ({"haproxy": "", "distribution": "debian", "release": "11"}, "block", ""),
        ({"haproxy": "1.8.4"}, "block", "this host has HAProxy 1.8"),
    ],
)
def test_f9_f6_haproxy_of_the_host(host: dict[str, Any], service: str, says: str) -> None:
    errors = challenge({"CC_REQUEST_FLOW": service}, host=host)["errors"]
    assert codes(errors) == (["haproxy_too_old"] if says else [])
    assert says in "".join(item["message"] for item in errors)


# -- varnish ---------------------------------------------------------------------------------------------------------------


def test_f8_the_vcl_is_complete() -> None:
    vcl = "vcl 4.1;\nsub vcl_recv { unset req.http.X; }\n"
    plan = varnished(vcl=vcl)
    assert told(plan, "varnish") == {"storage": "1G", "vcl": varnish.compose(vcl), "file": VCL}
    env = {"CC_REQUEST_FLOW": "otoroshi-challenge,varnish", "OTOROSHI_CHALLENGE_SECRET": SECRET}
    assert told(varnished(env, vcl), "varnish")["vcl"] == varnish.compose(vcl, first=False)


@pytest.mark.parametrize("name", ["/conf/my.vcl", "conf/my.vcl", "./conf//my.vcl"])
def test_f8_the_file_is_relative_to_the_project_root(name: str) -> None:
    files = ["sub/uv.lock", "sub/conf/my.vcl"]
    env = {"APP_FOLDER": "sub", "CC_VARNISH_FILE": name}
    plan = ask(env, files=files, texts={"sub/conf/my.vcl": "# mine\n"})
    assert told(plan, "varnish")["file"] == "conf/my.vcl"
    assert "# mine" in told(plan, "varnish")["vcl"]


@pytest.mark.parametrize(
    ("env", "vcl", "code"),
    [
        ({}, None, "varnish_file_missing"),
        ({"CC_VARNISH_FILE": "/other.vcl"}, "", "varnish_file_missing"),
        ({"CC_VARNISH_FILE": "/"}, "", "varnish_file_missing"),
        ({"CC_VARNISH_FILE": "/../x.vcl"}, "", "varnish_file_outside"),
        ({"CC_VARNISH_FILE": "~/x.vcl"}, "", "varnish_file_outside"),
        ({}, 'backend mine { .host = "x"; }', "varnish_backend"),
        ({}, "# x\n" * 150_000, "varnish_file_unreadable"),
    ],
)
def test_f8_a_file_that_cannot_be_used(env: dict[str, str], vcl: str | None, code: str) -> None:
    assert codes(varnished(env, vcl)["errors"]) == [code]


def test_f8_without_a_source_the_file_cannot_be_judged() -> None:
    source = {"files": ["uv.lock"], "texts": {}, "known": False}
    assert varnished(source=source)["errors"] == []


@pytest.mark.parametrize(
    ("size", "memory", "code"),
    [
        ("256M", 4000, ""),
        ("1.5g", 4000, ""),
        ("2GB", 4000, "varnish_storage_half"),
        ("4G", 4000, "varnish_storage_memory"),
        ("", 600, "varnish_storage_memory"),
        ("4G", None, ""),
        ("256", 4000, "varnish_storage"),
        ("1M,/tmp", 4000, "varnish_storage"),
        ("50%", 4000, "varnish_storage"),
        ("-1G", 4000, "varnish_storage"),
        ("lots", 4000, "varnish_storage"),
        ("9" * 30 + "G", 4000, "varnish_storage"),
    ],
)
def test_f8_storage(size: str, memory: int | None, code: str) -> None:
    plan = varnished({"CC_VARNISH_STORAGE_SIZE": size}, host={"memory_mb": memory})
    assert codes(plan["errors"] + plan["warnings"]) == ([code] if code else [])
    if code == "varnish_storage_memory":
        assert f"{(memory or 0) // 4}M" in plan["errors"][0]["next_step"]


def test_f3_a_cache_before_the_challenge_is_told() -> None:
    assert "varnish_before_challenge" in codes(challenge({"CC_REQUEST_FLOW": "varnish,otoroshi-challenge"})["warnings"])
    assert "varnish_before_challenge" not in codes(
        challenge({"CC_REQUEST_FLOW": "otoroshi-challenge,varnish"})["warnings"]
    )


@pytest.mark.parametrize(
    ("vcl", "shares"),
    [
        ("sub vcl_recv { return (hash); }", True),
        ('sub vcl_recv { if (req.url ~ "x") { return(pass); } return(hash); }', True),
        ("sub vcl_recv { unset req.http.A; }\nsub vcl_recv { return (hash); }", True),
        ('sub vcl_recv { if (req.url ~ "^/static") { return (hash); } }', False),
        ("sub vcl_recv { return (pass); }", False),
        ("sub vcl_recv { return (hash); }\nsub vcl_recv { return (pass); }", False),
        ("sub vcl_hash { return (hash); } # sub vcl_recv { return (hash); }", False),
        ("", False),
    ],
)
def test_f11_pages_of_one_user_are_not_for_all(vcl: str, shares: bool) -> None:
    behind = oauth2({"CC_REQUEST_FLOW": "oauth2-proxy,varnish"}, vcl=vcl)
    assert codes(behind["errors"]) == []
    assert ("varnish_shares_pages" in codes(behind["warnings"])) is shares
    before = oauth2({"CC_REQUEST_FLOW": "varnish,oauth2-proxy"}, vcl=vcl)
    assert "varnish_shares_pages" not in codes(before["warnings"])


# -- programs --------------------------------------------------------------------------------------------------------------


@pytest.mark.rule("F10", "F11")
@pytest.mark.parametrize(
    ("given", "program", "install"),
    [
        ("/opt/x/oauth2-proxy", "/opt/x/oauth2-proxy", {}),
        (
            {"url": "https://mirror.example/o.tgz", "checksum": f"sha256:{DIGEST}"},
            f"/opt/pyfleet/bin/oauth2-proxy-{DIGEST[:12]}",
            {"location": "https://mirror.example/o.tgz", "name": "oauth2-proxy", "checksum": DIGEST},
        ),
    ],
)
def test_f11_where_a_program_is(given: object, program: str, install: dict[str, str]) -> None:
    plan = oauth2(app={"oauth2_proxy": given})
    found = told(plan, "oauth2-proxy")
    assert (found["program"], found["install"]) == (program, install)
    shown = public_view(plan)["chain"]["settings"]["oauth2-proxy"]
    assert (shown["program"], shown["install"]) == (program, install)


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ("", "flow_program_missing"),
        (None, "flow_program_missing"),
        ("oauth2-proxy", "flow_program_path"),
        ("https://mirror.example/o.tgz", "flow_program_path"),
        (["x"], "flow_program_shape"),
        ({"checksum": DIGEST}, "flow_program_shape"),
        ({"url": "https://x/o", "checksum": DIGEST, "sha": "x"}, "flow_program_shape"),
        ({"url": "https://x/o"}, "flow_program_checksum"),
        ({"url": "https://x/o", "checksum": "md5:0"}, "flow_program_checksum"),
        ({"url": "https://me:s3cr3t-word@x/o", "checksum": DIGEST}, "flow_program_credentials"),
    ],
)
def test_f10_f11_a_program_that_cannot_be_found(given: object, code: str) -> None:
    for plan, variable in (
        (oauth2(app={"oauth2_proxy": given}), "app_oauth2_proxy"),
        (agent(app={"redirectionio_agent": given}), "app_redirectionio_agent"),
    ):
        error = only(plan["errors"], code)
        assert len(plan["errors"]) == 1
        assert error["variable"].startswith(variable)
        assert "s3cr3t-word" not in json.dumps(error)


def test_f10_redirectionio() -> None:
    nothing = {"program": "/usr/local/bin/redirectionio-agent", "install": {}, "configuration": "", "generation": 2}
    base = {**nothing, "project_key": "pr0ject:key-value", "instance_name": "shop", "forward_port": None}
    assert told(agent(), "redirectionio") == base
    env = {"CC_REDIRECTIONIO_INSTANCE_NAME": "web one", "CC_REDIRECTIONIO_FORWARD_PORT": "9100"}
    found = told(agent(env, app={"redirectionio_generation": 3}), "redirectionio")
    assert found == {**base, "instance_name": "web one", "forward_port": 9100, "generation": 3}


@pytest.mark.parametrize(
    ("env", "app", "code"),
    [
        ({"CC_REDIRECTIONIO_PROJECT_KEY": None}, {}, "redirectionio_key_missing"),
        ({"CC_REDIRECTIONIO_PROJECT_KEY": "a\nb"}, {}, "redirectionio_text"),
        ({"CC_REDIRECTIONIO_INSTANCE_NAME": "${HOME}"}, {}, "redirectionio_text"),
        ({"CC_REDIRECTIONIO_FORWARD_PORT": "0"}, {}, "redirectionio_port"),
        ({"CC_REDIRECTIONIO_FORWARD_PORT": "65536"}, {}, "redirectionio_port"),
        ({"CC_REDIRECTIONIO_FORWARD_PORT": "web"}, {}, "redirectionio_port"),
        ({"CC_REDIRECTIONIO_FORWARD_PORT": "8080"}, {}, "redirectionio_circle"),
        ({}, {"redirectionio_generation": 4}, "redirectionio_generation"),
        ({}, {"redirectionio_configuration": ["x"]}, "redirectionio_configuration"),
        ({}, {"redirectionio_configuration": "listen: @LISTEN_PORT@"}, "redirectionio_placeholders"),
    ],
)
def test_f10_what_the_agent_cannot_use(env: dict[str, Any], app: dict[str, Any], code: str) -> None:
    assert codes(agent(env, app=app)["errors"]) == [code]


def test_f10_a_configuration_of_ones_own_needs_no_key() -> None:
    own = "a: @LISTEN_PORT@\nb: @FORWARD_PORT@\n"
    plan = agent({"CC_REDIRECTIONIO_PROJECT_KEY": None}, app={"redirectionio_configuration": own})
    assert told(plan, "redirectionio")["configuration"] == own


# -- oauth2-proxy ----------------------------------------------------------------------------------------------------------


def test_f11_all_variables_but_the_chains_own_are_passed_on() -> None:
    own = {
        "OAUTH2_PROXY_HTTP_ADDRESS": "0.0.0.0:4180",
        "OAUTH2_PROXY_HTTPS_ADDRESS": ":443",
        "OAUTH2_PROXY_UPSTREAMS": "http://elsewhere/",
        "OAUTH2_PROXY_UPSTREAM": "http://elsewhere/",
        "OAUTH2_PROXY_CONFIG": "/etc/x.cfg",
    }
    plan = oauth2({**own, "OAUTH2_PROXY_PROVIDER": "github", "OTHER": "x"})
    passed = told(plan, "oauth2-proxy")["environment"]
    expected = {name: value for name, value in OAUTH2.items() if name.startswith("OAUTH2")}
    assert passed == {**expected, "OAUTH2_PROXY_PROVIDER": "github"}
    assert sorted(item["variable"] for item in plan["warnings"] if item["code"] == "oauth2_owned") == sorted(own)


@pytest.mark.parametrize(
    ("env", "code", "variable"),
    [
        ({"OAUTH2_PROXY_CLIENT_ID": " "}, "oauth2_missing", "OAUTH2_PROXY_CLIENT_ID"),
        ({"OAUTH2_PROXY_CLIENT_SECRET": None}, "oauth2_missing", "OAUTH2_PROXY_CLIENT_SECRET"),
        ({"OAUTH2_PROXY_PROVIDER": "oidc"}, "oauth2_missing", "OAUTH2_PROXY_OIDC_ISSUER_URL"),
        ({"OAUTH2_PROXY_COOKIE_SECRET": None}, "oauth2_cookie_missing", "OAUTH2_PROXY_COOKIE_SECRET"),
        ({"OAUTH2_PROXY_COOKIE_SECRET": "t00-short"}, "oauth2_cookie_size", "OAUTH2_PROXY_COOKIE_SECRET"),
        ({"OAUTH2_PROXY_EMAIL_DOMAINS": ""}, "oauth2_email_rule", "OAUTH2_PROXY_EMAIL_DOMAINS"),
        ({"OAUTH2_PROXY_EMAIL_DOMAINS": " , "}, "oauth2_email_rule", "OAUTH2_PROXY_EMAIL_DOMAINS"),
        ({"OAUTH2_PROXY_HTPASSWD_FILE": "users"}, "oauth2_file", "OAUTH2_PROXY_HTPASSWD_FILE"),
    ],
)
def test_f11_what_oauth2_proxy_would_refuse(env: dict[str, Any], code: str, variable: str) -> None:
    error = only(oauth2(env)["errors"], code)
    assert error["variable"] == variable
    assert "t00-short" not in json.dumps(error)


@pytest.mark.parametrize(
    "env",
    [
        {"OAUTH2_PROXY_CLIENT_SECRET": None, "OAUTH2_PROXY_CLIENT_SECRET_FILE": "/etc/secret"},
        {"OAUTH2_PROXY_CLIENT_SECRET": None, "OAUTH2_PROXY_PROVIDER": "login.gov"},
        {"OAUTH2_PROXY_COOKIE_SECRET": None, "OAUTH2_PROXY_COOKIE_SECRET_FILE": "/etc/cookie"},
        {"OAUTH2_PROXY_EMAIL_DOMAINS": None, "OAUTH2_PROXY_AUTHENTICATED_EMAILS_FILE": "/etc/emails"},
        {"OAUTH2_PROXY_EMAIL_DOMAINS": None, "OAUTH2_PROXY_HTPASSWD_FILE": "/etc/users"},
        {"OAUTH2_PROXY_PROVIDER": "oidc", "OAUTH2_PROXY_OIDC_ISSUER_URL": "https://login.example"},
    ],
)
def test_f11_what_oauth2_proxy_takes_instead(env: dict[str, Any]) -> None:
    assert oauth2(env)["errors"] == []


@pytest.mark.parametrize(
    ("secret", "size"),
    [
        ("0123456789abcdef", 16),
        ("x" * 24, 24),
        ("x" * 32, 24),  # reads as base64 of 24 bytes: a key as well
        ("!" * 32, 32),
        ("x" * 33, 33),  # no base64 has this length
        (base64.urlsafe_b64encode(bytes(range(200, 232))).decode(), 32),
        (base64.urlsafe_b64encode(bytes(range(200, 232))).decode().rstrip("="), 32),
        (base64.b64encode(b"\xff" * 32).decode(), 44),  # / and + are not URL-safe: taken as it is
        (base64.urlsafe_b64encode(b"\x00" * 20).decode(), 28),
        ("é" * 8, 16),
        ("", 0),
    ],
)
def test_f11_the_size_of_a_cookie_secret_is_what_the_program_takes_it_for(secret: str, size: int) -> None:
    assert chain_settings.cookie_secret_size(secret) == size


@pytest.mark.parametrize("name", ["EMAIL_DOMAIN", "WHITELIST_DOMAIN", "COOKIE_DOMAIN", "SKIP_AUTH_ROUTE"])
def test_f11_lists_have_a_name_in_the_plural(name: str) -> None:
    plan = oauth2({f"OAUTH2_PROXY_{name}": "x"})
    warning = only(plan["warnings"], "oauth2_singular")
    assert f"Rename OAUTH2_PROXY_{name} to OAUTH2_PROXY_{name}S" in warning["next_step"]


@pytest.mark.parametrize(
    ("env", "warned"),
    [
        ({}, True),
        ({"OAUTH2_PROXY_SKIP_AUTH_ROUTES": "^/other$,POST=^/health"}, True),
        ({"OAUTH2_PROXY_SKIP_AUTH_ROUTES": "GET!=^/health"}, True),
        ({"OAUTH2_PROXY_SKIP_AUTH_ROUTES": "/other, GET=^/health$"}, False),
        ({"OAUTH2_PROXY_SKIP_AUTH_ROUTES": "^/hea"}, False),
        ({"OAUTH2_PROXY_SKIP_AUTH_REGEX": "^/health"}, False),
        ({"OAUTH2_PROXY_SKIP_AUTH_REGEX": "[[:alpha:"}, False),
        ({"OAUTH2_PROXY_PING_PATH": "/health"}, False),
        ({"OAUTH2_PROXY_TRUSTED_IPS": "10.0.0.1, 127.0.0.0/8"}, False),
    ],
)
def test_f11_a_health_path_behind_the_login(env: dict[str, str], warned: bool) -> None:
    plan = oauth2({"CC_HEALTH_CHECK_PATH": "/health?x=1", **env})
    assert (codes(plan["errors"]), "oauth2_health_path" in codes(plan["warnings"])) == ([], warned)
    # A page to sign in is an answer as good as another where no path is set.
    assert "oauth2_health_path" not in codes(oauth2(env)["warnings"])


# -- custom ----------------------------------------------------------------------------------------------------------------


def custom(command: str, **more: Any) -> dict[str, Any]:
    env = {"CC_REQUEST_FLOW": "custom", "CC_REQUEST_FLOW_CUSTOM": command, "X_TOKEN": "t0ken-value", "PORT": None}
    return chain(env, **more)


def test_f5_a_program_of_the_host_stays_when_the_code_changes() -> None:
    plan, other = custom(CUSTOM), custom(CUSTOM, release_id="ffffffffffff")
    found = told(plan, "custom")
    assert found["script"] == "exec " + CUSTOM
    assert found == told(other, "custom")
    assert (found["environment"]["X_TOKEN"], found["renewed"]) == ("t0ken-value", False)
    assert "PORT" not in found["environment"]
    in_place = chain({**IN_PLACE, "CC_REQUEST_FLOW": "custom", "CC_REQUEST_FLOW_CUSTOM": CUSTOM})
    assert "PORT" in in_place["environment"]
    assert "PORT" not in told(in_place, "custom")["environment"]


@pytest.mark.parametrize(
    "command",
    [
        "uv run proxy @@LISTEN_PORT@@ @@FORWARD_PORT@@",
        "bin/proxy @@LISTEN_PORT@@ @@FORWARD_PORT@@",
        "/usr/bin/python3 ./bin/proxy @@LISTEN_PORT@@ @@FORWARD_PORT@@",
        "/usr/bin/proxy --config=bin @@LISTEN_PORT@@ @@FORWARD_PORT@@",
        "/usr/bin/proxy $(cat x) @@LISTEN_PORT@@ @@FORWARD_PORT@@",
    ],
)
def test_f5_what_comes_from_the_project_is_renewed_with_it(command: str) -> None:
    plan = custom(command)
    found = told(plan, "custom")
    assert found["environment"]["VIRTUAL_ENV"] == plan["environment"]["VIRTUAL_ENV"]
    assert found != told(custom(command, release_id="ffffffffffff"), "custom")
    assert any("a new one with every release" in line for line in plan["summary"])


def test_f5_uv_run_starts_the_program_itself() -> None:
    found = told(custom("uv run proxy @@LISTEN_PORT@@ @@FORWARD_PORT@@"), "custom")
    assert found["script"] == "exec proxy @@LISTEN_PORT@@ @@FORWARD_PORT@@"
    fetching = custom("uvx proxy @@LISTEN_PORT@@ @@FORWARD_PORT@@")
    assert only(fetching["warnings"], "run_needs_network")["variable"] == "CC_REQUEST_FLOW_CUSTOM"


# -- what a chain asks of the application --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "part"),
    [
        ("uv run x --port 8080", "--port 8080"),
        ("uv run x --port=8081", "--port=8081"),
        ("uv run x -p 8080", "-p 8080"),
        ("uv run x -p8080", "-p8080"),
        ("uv run x --bind 0.0.0.0:8080", "0.0.0.0:8080"),
        ("uv run x --bind '[::]:8080'", "[::]:8080"),
        ("uv run x --http-port 8080 && y", "--http-port 8080"),
        ("uv run x --port 9000", ""),
        ("uv run x --workers 8080", ""),
        ("uv run x --port 18080", ""),
        ("uv run x --port $PORT", ""),
    ],
)
def test_f4_a_command_with_a_port_of_the_chain(command: str, part: str) -> None:
    assert chain_settings.literal_port(command, [8080, 8081]) == part
    plan = chain({**TWO, "CC_PYTHON_UV_RUN_COMMAND": command})
    assert ("request_flow_literal_port" in codes(plan["warnings"])) is bool(part)
    assert "request_flow_literal_port" not in codes(chain({"CC_PYTHON_UV_RUN_COMMAND": command}, None)["warnings"])


# -- all of it -------------------------------------------------------------------------------------------------------------


def test_f1_all_errors_at_once() -> None:
    env = {"CC_REQUEST_FLOW": "otoroshi-challenge,varnish,redirectionio,oauth2-proxy,custom"}
    plan = chain(env, None, app={"oauth2_proxy": "", "redirectionio_agent": ""})
    assert {
        "challenge_secret_missing",
        "varnish_file_missing",
        "redirectionio_key_missing",
        "flow_program_missing",
        "oauth2_missing",
        "oauth2_cookie_missing",
        "oauth2_email_rule",
        "request_flow_custom_missing",
    } <= set(codes(plan["errors"]))
    assert all(service in plan["chain"]["settings"] for service in env["CC_REQUEST_FLOW"].split(","))


ALL = {
    **OAUTH2,
    **TWO,
    "CC_REDIRECTIONIO_PROJECT_KEY": "pr0ject:key-value",
    "CC_REQUEST_FLOW_CUSTOM": f"{CUSTOM} --token t0ken-value",
    "X_TOKEN": "t0ken-value",
    "CC_REQUEST_FLOW": "otoroshi-challenge,varnish,redirectionio,oauth2-proxy,custom",
}


def test_f14_the_public_plan_holds_no_secret() -> None:
    app = {
        "challenge_previous_secret": "before-" + SECRET,
        "challenge_previous_until": "2026-11-21T00:00:00Z",
        "redirectionio_configuration": "@LISTEN_PORT@ @FORWARD_PORT@ c0nfigured-secret",
    }
    plan = chain(ALL, app=app)
    assert plan["errors"] == []
    shown = json.dumps([public_view(plan), plan["summary"], plan["warnings"]])
    raw = json.dumps(plan)
    keys = [secret["key"] for secret in plan["chain"]["settings"]["otoroshi-challenge"]["secrets"]]
    words = (
        "cl13nt-s3cret",
        "pr0ject:key-value",
        "t0ken-value",
        "c0nfigured-secret",
        OAUTH2["OAUTH2_PROXY_COOKIE_SECRET"],
    )
    for secret in (*keys, *words):
        assert secret in raw
        assert secret not in shown


@pytest.mark.rule("F5", "F8", "F9", "F10", "F11", "F14")
def test_f14_the_templates_take_what_the_plan_says() -> None:
    """Every template of every hop, rendered with the plan's own settings; a variable that is missing is an error."""
    plan = chain(ALL)
    assert plan["errors"] == []
    for index, hop in enumerate(plan["chain"]["hops"]):
        service = hop["service"]
        names = [path.name for path in proxies.TEMPLATES.glob(f"{service}.*")]
        assert len(names) > 1
        for name in names:
            assert proxies.render(name, service, plan["chain"]["settings"][service], index)


def test_f13_nginx_and_the_chain_are_known_by_their_ports(tmp_path: Path) -> None:
    alone, chained = legacy()["server"], legacy(TWO)["server"]
    given = {"name": "shop", "user": "app-shop"}
    assert deployment.nginx_key(given, alone, "x") != deployment.nginx_key(given, chained, "x")


def test_f13_f8_the_payload_describes_the_chain(tmp_path: Path) -> None:
    for name in ("uv.lock", "my.vcl"):
        (tmp_path / name).write_text("# mine\n")
    names = ("drain_seconds", "stop_seconds")
    given = {"name": "shop", "root": "/srv/pyfleet", "user": "app-shop", **dict.fromkeys(names, 30)}
    env = {"CC_PYTHON_UV_RUN_COMMAND": "uv run x --port $PORT", "CC_VARNISH_FILE": "/my.vcl"}
    made = deployment.deployment(given, env, {"path": str(tmp_path)}, {}, cache=str(tmp_path.parent / "cache"))
    payload = json.loads(made.payload(None, deployment.FlowFiles("0" * 12, {}, {})))
    assert "# mine" in payload["flow"]["vcl"]
    description = payload["description"]
    assert description["inner"] == [layer("application", 9000, 19000, 29000)]
    assert description["candidates"] == [18080, 28080]
    flow = description["flow"]
    assert (flow["services"], flow["inner_ports"], flow["block"]) == (["varnish"], [9000, 39000], False)
    # A chain that forwards elsewhere is another chain, whatever its own settings.
    assert flow["key"] != deployment._chain_key("0" * 12, [8081, 39000])


def test_f9_the_secret_before_makes_another_release() -> None:
    source = Source("path", "", "0" * 64, "", "", 0, ("uv.lock",), {}, {})
    base = {"name": "shop", "challenge_previous_until": "2026-11-20T03:30:00Z"}
    found = {
        deployment.release_id({**base, **more}, {}, source)
        for more in ({}, {"challenge_previous_secret": "x"}, {"oauth2_proxy": "/x"}, {"redirectionio_generation": 3})
    }
    assert len(found) == 4


# -- properties --------------------------------------------------------------------------------------------------------------

WORDS = ["", " ", "/", "/a", "a,b", "1G", "2", "0", "65536", "*", "true", "x" * 32, "\n", "'", "é", "${X}", "2026-11-20T03:30:00Z",
         "9999-12-31T23:59:59-23:59", "^/a$", "GET=(", "@@LISTEN_PORT@@ @@FORWARD_PORT@@", "x @@LISTEN_PORT@@ @@FORWARD_PORT@@",
         "sub vcl_recv { return (hash); }", "backend x {", "{\"", "\"\"\"", "}", "8080", "\ud800"]  # fmt: skip
TEXT = st.one_of(st.sampled_from(WORDS), st.text(max_size=30), st.text("'\"\\ ${}%;#/,=\n@aG1.-", max_size=20))
JUNK = st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.lists(TEXT, max_size=2)
NAMES = [
    "OTOROSHI_CHALLENGE_SECRET", "OTOROSHI_CHALLENGE_EXCLUDE_PATHS", "CC_VARNISH_FILE", "CC_VARNISH_STORAGE_SIZE", "APP_FOLDER",
    "CC_REQUEST_FLOW_CUSTOM", "CC_REDIRECTIONIO_PROJECT_KEY", "CC_REDIRECTIONIO_INSTANCE_NAME", "CC_REDIRECTIONIO_FORWARD_PORT",
    "CC_HEALTH_CHECK_PATH", "PORT", "CC_TASK", "CC_RUN_COMMAND",
    *(f"OAUTH2_PROXY_{name}" for name in ("COOKIE_SECRET", "SKIP_AUTH_ROUTES", "SKIP_AUTH_REGEX", "TRUSTED_IPS", "UPSTREAM", "PROVIDER",
                                          "EMAIL_DOMAIN", "EMAIL_DOMAINS", "CLIENT_SECRET_FILE", "PING_PATH")),
]  # fmt: skip
SERVICES = ["otoroshi-challenge", "varnish", "redirectionio", "oauth2-proxy", "custom"]
FLOW = st.lists(st.sampled_from(SERVICES), min_size=1, unique=True).map(",".join) | st.sampled_from(
    ["block", "disable"]
)
GIVEN = st.fixed_dictionaries(
    {"name": st.just("shop")},
    optional={
        **dict.fromkeys(
            (
                "challenge_previous_secret",
                "challenge_previous_until",
                "redirectionio_generation",
                "redirectionio_configuration",
            ),
            JUNK,
        ),
        **dict.fromkeys(
            ("oauth2_proxy", "redirectionio_agent"),
            JUNK | st.dictionaries(st.sampled_from(["url", "checksum", "x"]), JUNK, max_size=3) | st.just("/bin/x"),
        ),
        "port": st.sampled_from([9000, 8081, 35535, 65535]),
        "public_port": st.sampled_from([8080, 65535]),
    },
)
HOST = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "haproxy": JUNK,
        "distribution": JUNK,
        "release": JUNK,
        "memory_mb": JUNK,
        "listeners": JUNK,
        "apps": JUNK,
    },
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    flow=FLOW,
    env=st.dictionaries(st.sampled_from(NAMES), TEXT, max_size=8),
    vcl=st.none() | TEXT,
    app=GIVEN,
    host=HOST,
    uv=st.booleans(),
)
def test_f1_any_settings_of_a_chain_yield_a_plan_or_named_errors(
    flow: str, env: Any, vcl: Any, app: Any, host: Any, uv: bool
) -> None:
    texts = {"requirements.txt": "x", **({} if vcl is None else {VCL: vcl})}
    files = [*texts, "shop.py", *(["uv.lock"] if uv else [])]
    run = {"CC_PYTHON_UV_RUN_COMMAND": "uv run x"} if uv else {"CC_PYTHON_MODULE": "shop:app"}
    inputs = {
        "app": app,
        "env": {**run, **env, "CC_REQUEST_FLOW": flow},
        "source": {"files": files, "texts": texts},
        "host": host,
        "today": "2026-11-20",
    }
    plan = make_plan(inputs)
    assert json.loads(json.dumps(plan).encode()) == plan
    assert make_plan(inputs) == plan
    json.dumps(public_view(plan))
    assert all("\n" not in line for line in plan["summary"])
    assert set(plan["chain"]["settings"]) == {hop["service"] for hop in plan["chain"]["hops"]}
    if plan["errors"] or not plan["chain"]["active"]:
        return
    assert len(plan["ports"]["inner"]) == len(plan["ports"]["candidates"]) == 2
    for index, hop in enumerate(plan["chain"]["hops"]):
        for path in proxies.TEMPLATES.glob(f"{hop['service']}.*"):
            proxies.render(path.name, hop["service"], plan["chain"]["settings"][hop["service"]], index)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(secret=TEXT, before=TEXT, paths=TEXT, health=TEXT)
def test_f9_haproxy_takes_whatever_the_plan_lets_through(secret: str, before: str, paths: str, health: str) -> None:
    haproxy = proxies.program("haproxy")
    env = {
        "OTOROSHI_CHALLENGE_SECRET": secret,
        "OTOROSHI_CHALLENGE_EXCLUDE_PATHS": paths,
        "CC_HEALTH_CHECK_PATH": health,
    }
    app = {"challenge_previous_secret": before, "challenge_previous_until": "2026-12-01T00:00:00Z"}
    plan = challenge(env, app=app)
    if plan["errors"]:
        return
    text = proxies.render("otoroshi-challenge.cfg.j2", "otoroshi-challenge", told(plan, "otoroshi-challenge"))
    text = proxies.with_ports(text, 18080, 9000)
    done = subprocess.run([haproxy, "-c", "-f", "/dev/stdin"], input=text, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


def test_f9_haproxy_takes_the_longest_settings() -> None:
    haproxy = proxies.program("haproxy")
    env = {"OTOROSHI_CHALLENGE_SECRET": "x" * 1024, "OTOROSHI_CHALLENGE_EXCLUDE_PATHS": "/" + "'" * 510}
    app = {"challenge_previous_secret": "y" * 1024, "challenge_previous_until": "2026-12-01T00:00:00Z"}
    flow = told(challenge(env, app=app), "otoroshi-challenge")
    text = proxies.with_ports(proxies.render("otoroshi-challenge.cfg.j2", "otoroshi-challenge", flow), 18080, 9000)
    done = subprocess.run([haproxy, "-c", "-f", "/dev/stdin"], input=text, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


def test_f7_disable_has_no_settings(plan: Plan) -> None:
    assert plan({"CC_REQUEST_FLOW": "disable"})["chain"]["settings"] == {}
