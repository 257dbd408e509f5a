# Copyright: (c) 2026, the pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sections E and F: the health check's words and rules, the chain as a result."""

from __future__ import annotations

import pytest

from ansible_collections.pyfleet.runtime.plugins.module_utils import health, request_flow

from .support import Plan, codes, only


def test_e1_all_paths_up_to_the_first_missing_index(plan: Plan) -> None:
    env = {
        "CC_HEALTH_CHECK_PATH": "/a",
        "CC_HEALTH_CHECK_PATH_0": "/b",
        "CC_HEALTH_CHECK_PATH_1": "/a",
        "CC_HEALTH_CHECK_PATH_3": "/d",
    }
    result = plan(env)
    assert (result["health"]["paths"], result["health"]["accept"]) == (["/a", "/b"], "200")
    warning = only(result["warnings"], "health_path_gap")
    assert warning["variable"] == "CC_HEALTH_CHECK_PATH_3"
    assert "CC_HEALTH_CHECK_PATH_2" in warning["message"]


@pytest.mark.parametrize("path", ["health", "", "/a b", "/a\r\nX: y", "/a#b", "http://x/"])
def test_e1_bad_path(plan: Plan, path: str) -> None:
    error = only(plan({"CC_HEALTH_CHECK_PATH": path})["errors"], "health_path_invalid")
    assert (error["variable"], error["next_step"].count("/") > 0) == ("CC_HEALTH_CHECK_PATH", True)


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        ("200", [200], [199, 201, 302, 500]),
        ("2xx", [200, 204, 299], [300, 199]),
        ("200-499", [200, 302, 404, 499], [199, 500]),
    ],
)
def test_e1_e2_what_passes(rule: str, good: list[int], bad: list[int]) -> None:
    assert all(health.accepts(rule, status) for status in good)
    assert not any(health.accepts(rule, status) for status in bad)
    assert not health.accepts(rule, "timed out")


def test_e1_setting_widens_to_2xx(plan: Plan) -> None:
    assert plan({"CC_HEALTH_CHECK_PATH": "/a"}, app={"health_accept_2xx": True})["health"]["accept"] == "2xx"


def test_e2_default_is_the_root_path(plan: Plan) -> None:
    part = plan()["health"]
    assert (part["paths"], part["accept"]) == (["/"], "200-499")


def test_e3_the_contracts_words() -> None:
    assert health.response_line("/my/awesome/path", 200) == "Response from GET /my/awesome/path is 200"
    assert health.failure_lines({"/my/other/path": 500}) == [
        "Health check failed:",
        "- GET /my/other/path returned 500.",
        "If the deployment fails after this message, please update your configuration and redeploy.",
    ]


@pytest.mark.parametrize(
    ("listeners", "wanted", "verdict"),
    [
        ([(8080, "0.0.0.0")], [8080], ""),
        ([(8080, "::")], [8080], ""),
        ([(8080, "10.0.0.5")], [8080], ""),
        ([(8080, "127.0.0.1"), (8080, "::")], [8080], ""),
        ([(8080, "127.0.0.1")], [8080], "Your application is listening on localhost instead of publicly"),
        (
            [(8080, "127.9.9.9"), (8080, "::1")],
            [8080],
            "Your application is listening on localhost instead of publicly",
        ),
        ([(8080, "::ffff:127.0.0.1")], [8080], "Your application is listening on localhost instead of publicly"),
        ([(8081, "0.0.0.0")], [8080], "Your application is not listening on 8080"),
        ([], [8080], "Your application is not listening on 8080"),
        (
            [(8080, "0.0.0.0"), (8081, "127.0.0.1")],
            [8080, 8081, 9000],
            "Some software are not listening as expected: 9000",
        ),
        ([(8080, "0.0.0.0"), (9000, "127.0.0.1")], [8080, 9000], ""),
        # The first hop did not start: the public port is closed, whatever runs behind it.
        ([(8081, "127.0.0.1"), (9000, "127.0.0.1")], [8080, 8081, 9000], "Your application is not listening on 8080"),
        ([], [8080, 8081, 9000], "Your application is not listening on 8080"),
        ([(8080, "::")], [8080, 8081, 9000], "Some software are not listening as expected: 8081, 9000"),
        (
            [(8080, "127.0.0.1"), (8081, "127.0.0.1"), (9000, "127.0.0.1")],
            [8080, 8081, 9000],
            "Your application is listening on localhost instead of publicly",
        ),
    ],
)
def test_e4_listeners(listeners: list[tuple[int, str]], wanted: list[int], verdict: str) -> None:
    found = [{"port": port, "address": address, "pid": 1} for port, address in listeners]
    assert health.listener_verdict(found, wanted) == verdict


def test_e5_delays_grow_to_the_deadline() -> None:
    times = health.schedule(60)
    assert times[:7] == [0.0, 0.25, 0.75, 1.75, 3.75, 7.75, 12.75]
    assert times[-1] == 60.0
    delays = [later - earlier for earlier, later in zip(times, times[1:])]
    assert max(delays) <= 5.0
    assert delays[:-1] == sorted(delays[:-1])
    assert health.schedule(0) == [0.0]


def test_e5_plan_shows_the_schedule(plan: Plan) -> None:
    result = plan(app={"health_deadline": 10})
    assert result["health"]["schedule"][-1] == 10.0
    assert any("in 10 s" in line for line in result["summary"])


def test_e6_failed_hook_is_in_the_plan(plan: Plan) -> None:
    assert plan({"CC_RUN_FAILED_HOOK": "notify"})["hooks"]["run_failed"] == "notify"


# -- F ---------------------------------------------------------------------------------------------------------------------


def test_f1_unknown_service_lists_the_valid_ones(plan: Plan) -> None:
    error = only(plan({"CC_REQUEST_FLOW": "varnish,squid"})["errors"], "request_flow_unknown")
    assert all(service in error["next_step"] for service in request_flow.SERVICES)
    assert "squid" in error["message"]


def test_f2_detection_in_default_order(plan: Plan) -> None:
    env = {"CC_REDIRECTIONIO_PROJECT_KEY": "k", "OTOROSHI_CHALLENGE_SECRET": "s"}
    chain = plan(env, files=["uv.lock", "clevercloud/varnish.vcl"])["chain"]
    assert [hop["service"] for hop in chain["hops"]] == ["otoroshi-challenge", "varnish", "redirectionio"]
    assert plan({"CC_VARNISH_FILE": "/x.vcl"})["chain"]["hops"][0]["service"] == "varnish"
    assert plan({"CC_REQUEST_FLOW_CUSTOM": "x", "OAUTH2_PROXY_CLIENT_ID": "y"})["chain"]["active"] is False


def test_f3_the_variable_replaces_detection(plan: Plan) -> None:
    chain = plan({"CC_REQUEST_FLOW": "redirectionio, varnish", "OTOROSHI_CHALLENGE_SECRET": "s"})["chain"]
    assert [hop["service"] for hop in chain["hops"]] == ["redirectionio", "varnish"]
    found = codes(plan({"CC_REQUEST_FLOW": "varnish,,varnish"})["errors"])
    assert found == ["request_flow_empty", "request_flow_duplicate"]


def test_f4_ports_of_the_hops(plan: Plan) -> None:
    result = plan({"CC_REQUEST_FLOW": "redirectionio,varnish"})
    assert [(hop["listen"], hop["forward"]) for hop in result["chain"]["hops"]] == [(8080, 8081), (8081, 9000)]
    assert result["ports"]["application"] == 9000
    assert result["ports"]["hops"] == [8080, 8081]


def test_f4_d2_behind_a_chain_port_is_9000_in_place(plan: Plan) -> None:
    result = plan({"CC_REQUEST_FLOW": "varnish", "CC_PYTHON_UV_RUN_COMMAND": "uv run x"})
    assert (result["environment"]["PORT"], result["ports"]["application_candidates"]) == ("9000", [9000])
    assert codes(plan({"CC_REQUEST_FLOW": "varnish"}, app={"port": 8080})["errors"])[0] == "ports_collide"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (None, "request_flow_custom_missing"),
        ("x @@LISTEN_PORT@@", "request_flow_custom_placeholder"),
        ("x '@@LISTEN_PORT@@ @@FORWARD_PORT@@", "request_flow_custom_invalid"),
        ("x @@LISTEN_PORT@@ @@FORWARD_PORT@@", None),
    ],
)
def test_f5_custom_needs_both_placeholders(plan: Plan, command: str | None, code: str | None) -> None:
    found = codes(plan({"CC_REQUEST_FLOW": "custom", "CC_REQUEST_FLOW_CUSTOM": command})["errors"])
    assert found == ([code] if code else [])


def test_f6_block_stands_alone(plan: Plan) -> None:
    result = plan({"CC_REQUEST_FLOW": "varnish,block"})
    assert result["chain"]["block"] is True
    assert result["chain"]["hops"] == [{"service": "block", "listen": 8080, "forward": None}]
    assert "varnish" in only(result["warnings"], "request_flow_ignored")["message"]


def test_f7_disable_is_no_hop(plan: Plan) -> None:
    result = plan({"CC_REQUEST_FLOW": "disable", "OTOROSHI_CHALLENGE_SECRET": "s"})
    assert (result["chain"]["active"], result["errors"], result["ports"]["application"]) == (False, [], 8080)
