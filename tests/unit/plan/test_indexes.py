# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private indexes (H2) as the plan sees them: addresses of the presets, variables of the build, findings, what a refusal means."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.plugins.module_utils import (
    indexes,
    legacy_verdicts,
    lock,
    pip_settings,
    shipping,
    uv,
    uv_config,
    venvs,
)
from ansible_collections.pyfleet.runtime.plugins.module_utils.plan import public_view

from .support import INPUTS, ask, codes, legacy, only

URL = "https://index.example/simple"
HOST: dict[str, Any] = {"indexes": {}, "keyring": True}
CORP = {"name": "corp", "url": URL, "username": "deploy", "password": "hunter2-index"}


def read(*entries: Any, env: dict[str, str] | None = None, netrc: Any = "", **more: Any) -> indexes.Indexes:
    """`indexes.read` for a project that names nothing, on a host that has everything."""
    return indexes.read(list(entries), netrc, env or {}, **{"host": HOST, **more})


@pytest.mark.parametrize(
    ("entry", "address", "user"),
    [
        (
            {"preset": "azure", "organization": "acme", "project": "Web Shop", "feed": "py"},
            "https://pkgs.dev.azure.com/acme/Web%20Shop/_packaging/py/pypi/simple/",
            "VssSessionToken",
        ),
        (
            {"preset": "azure", "organization": "acme", "feed": "py"},
            "https://pkgs.dev.azure.com/acme/_packaging/py/pypi/simple/",
            "VssSessionToken",
        ),
        (
            {"preset": "google", "region": "europe-west1", "project": "acme-1", "repository": "py"},
            "https://europe-west1-python.pkg.dev/acme-1/py/simple/",
            "oauth2accesstoken",
        ),
        (
            {
                "preset": "codeartifact",
                "domain": "acme",
                "account": 111122223333,
                "region": "eu-west-1",
                "repository": "py",
            },
            "https://acme-111122223333.d.codeartifact.eu-west-1.amazonaws.com/pypi/py/simple/",
            "aws",
        ),
        (
            {"preset": "artifactory", "host": "acme.jfrog.io", "repository": "py"},
            "https://acme.jfrog.io/artifactory/api/pypi/py/simple",
            "",
        ),
        ({"preset": "artifactory", "host": "acme.jfrog.io", "repository": "py", "username": "ann"}, None, "ann"),
    ],
)
def test_h2_a_preset_knows_address_and_user(entry: dict[str, Any], address: str | None, user: str) -> None:
    found, wrong = indexes.address(entry)
    assert wrong == []
    assert address in (found, None)
    given = read({"name": "my-index", **entry, "token_command": ["print-token"]})
    assert codes_of(given) == []
    assert given.variables["UV_INDEX_MY_INDEX_USERNAME"] == user
    assert given.variables["UV_INDEX"] == f"my-index={found}"
    assert "UV_INDEX_MY_INDEX_PASSWORD" not in given.variables
    assert given.tokens == {"UV_INDEX_MY_INDEX_PASSWORD": ("my-index", ("print-token",))}


def codes_of(given: indexes.Indexes) -> list[str]:
    return [item.code for item in given.findings]


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ("corp", "it is not a mapping"),
        ({"url": URL}, "its name is not letters"),
        ({"name": "a b", "url": URL}, "its name is not letters"),
        ({"name": "a", "url": "index.example"}, "its url is no address"),
        ({"name": "a", "url": "https://u:hunter2@index.example"}, "keys of their own"),
        ({"name": "a", "url": URL, "feed": "x"}, "feed belongs to a preset"),
        ({"name": "a", "url": URL, "passwort": "hunter2"}, "passwort is not a key of it"),
        (
            {"name": "a", "preset": "gitlab"},
            "gitlab is not a preset; there are artifactory, azure, codeartifact, google",
        ),
        ({"name": "a", "preset": "azure", "url": URL, "organization": "o", "feed": "f"}, "a url and a preset"),
        ({"name": "a", "preset": "azure", "feed": "f"}, "organization is missing"),
        (
            {"name": "a", "preset": "azure", "organization": "o", "feed": "f", "region": "x"},
            "region is not a part of azure",
        ),
        ({"name": "a", "preset": "artifactory", "host": "https://x", "repository": "r"}, "host is not one: https://x"),
        ({"name": "a", "preset": "azure", "organization": "o/../p", "feed": "f"}, "organization is not one"),
        (
            {"name": "a", "preset": "codeartifact", "domain": "d", "account": 12, "region": "r", "repository": "x"},
            "account is not 12 digits",
        ),
        ({**CORP, "token_command": ["x"]}, "password and token_command"),
        ({**CORP, "keyring": True}, "password and keyring"),
        ({**CORP, "keyring": "yes"}, "its keyring is not true or false"),
        ({"name": "a", "url": URL, "username": "u", "token_command": "az account"}, "no shell runs it"),
        ({"name": "a", "url": URL, "username": "u", "token_command": []}, "no shell runs it"),
        ({"name": "a", "url": URL, "username": "u", "token_command": ["a", 1]}, "no shell runs it"),
        ({"name": "a", "url": URL, "password": "hunter2"}, "its username is missing (write ''"),
        ({"name": "a", "url": URL, "username": "", "keyring": True}, "for which the keyring is asked"),
        (
            {"name": "a", "url": URL, "username": "u", "password": "hunter2\nx"},
            "its password is not a text of one line",
        ),
    ],
)
def test_h2_what_is_wrong_with_an_entry_is_named_and_no_secret(entry: Any, why: str) -> None:
    given = read(entry)
    assert set(codes_of(given)) == {"index_entry"}
    text = " ".join(item.render() for item in given.findings)
    assert why in text
    assert "app_indexes[0]" in text
    assert "hunter2" not in text
    assert given.variables == {}


def test_h2_entries_that_share_their_variables_and_what_is_no_list_are_refused() -> None:
    given = read(CORP, {**CORP, "name": "Corp"})
    assert [item.variable for item in given.findings] == ["app_indexes[1]"]
    assert "UV_INDEX_CORP_PASSWORD" in given.findings[0].message
    assert codes_of(indexes.read("hunter2", None, {})) == ["option_invalid"]
    assert codes_of(read(netrc="hunter2")) == ["option_invalid"]
    assert "hunter2" not in read(netrc="hunter2").findings[0].render()
    assert read().variables == {}


def test_h2_an_index_that_the_project_names_is_not_added_again_and_its_address_is_compared() -> None:
    declared = [{"name": "corp", "url": URL + "/"}]
    given = read(CORP, declared=declared)
    assert set(given.variables) == {"UV_INDEX_CORP_USERNAME", "UV_INDEX_CORP_PASSWORD"}
    short = {"name": "corp", "username": "deploy", "password": "hunter2"}
    assert codes_of(read(short, declared=declared)) == []
    assert codes_of(read(short, host={**HOST, "indexes": {"corp": URL}})) == []
    assert codes_of(read(short, env={"UV_INDEX": f"corp={URL}"})) == []
    assert codes_of(read(short)) == ["index_unknown"]
    other = read({**CORP, "url": "https://other.example/simple"}, declared=declared)
    assert codes_of(other) == ["index_address_differs"]
    assert "https://other.example/simple and https://index.example/simple/ (in" in other.findings[0].message
    # my-corp and my_corp have one pair of variables: neither's password may reach the other's address.
    twins = [{"name": name, "url": f"https://{place}.example/simple"} for name, place in (("a-b", "x"), ("A_B", "y"))]
    one = {"name": "a.b", "username": "u", "password": "hunter2"}
    assert codes_of(read(one, declared=twins)) == ["index_address_differs"]
    assert codes_of(read({**one, "url": "https://y.example/simple"}, declared=twins)) == ["index_address_differs"]
    same = [{**each, "url": "https://x.example/simple"} for each in twins]
    assert codes_of(read(one, declared=same)) == []
    # One name with two addresses, one of a member of the workspace: uv would take the password to both.
    apart = [{"name": "corp", "url": f"https://{place}.example/simple"} for place in ("index", "member")]
    assert codes_of(read(short, declared=apart)) == ["index_address_differs"]
    assert codes_of(read(CORP, declared=apart[::-1])) == ["index_address_differs"]
    assert codes_of(read(short, declared=apart, env={"UV_INDEX": f"corp={URL}"})) == []
    on_the_host = {**HOST, "indexes": {"A_B": "https://y.example/simple"}}
    assert codes_of(read(one, declared=twins[:1], host=on_the_host)) == ["index_address_differs"]
    # Nobody could read the project's file, or looks at a host: uv itself will say.
    assert codes_of(read(short, declared=None)) == []
    assert codes_of(read(short, host=None)) == []


def test_h2_an_added_index_keeps_others_and_is_spelled_as_in_the_lock() -> None:
    given = read(CORP, env={"UV_INDEX": "https://first.example"}, registries=[URL + "/"])
    assert given.variables["UV_INDEX"] == f"https://first.example corp={URL}/"
    only_one = read({**CORP, "default": True})
    assert only_one.variables["UV_DEFAULT_INDEX"] == f"corp={URL}"
    assert "UV_INDEX" not in only_one.variables


def test_h2_keyring_is_a_provider_of_the_build_and_has_to_be_on_the_host() -> None:
    entry = {
        "name": "corp",
        "preset": "codeartifact",
        "domain": "acme",
        "account": "000011112222",
        "region": "eu-west-1",
        "repository": "py",
        "keyring": True,
    }
    given = read(entry)
    assert given.variables["UV_KEYRING_PROVIDER"] == "subprocess"
    assert given.variables["UV_INDEX_CORP_USERNAME"] == "aws"
    assert "UV_INDEX_CORP_PASSWORD" not in given.variables
    missing = read(entry, host={**HOST, "keyring": False})
    assert codes_of(missing) == ["index_keyring_missing"]
    assert "{name: keyring, with: [keyrings.codeartifact]}" in missing.findings[0].next_step
    assert codes_of(read(entry, host={**HOST, "keyring": False}, env={"PATH": "/opt/bin"})) == []
    assert codes_of(read(entry, host={**HOST, "keyring": False}, anywhere=True)) == [], "another host may build"


def test_h2_the_plan_hands_credentials_to_the_build_alone() -> None:
    entries = [
        CORP,
        {"name": "two", "url": "https://two.example", "username": "u", "token_command": ["vault", "hunter2-arg"]},
    ]
    app = {"indexes": entries, "netrc": "machine x login y password hunter2-netrc\n"}
    for made in (ask(app=app), legacy(app=app)):
        assert made["errors"] == []
        environment = made["build"]["environment"]
        assert environment["UV_INDEX_CORP_PASSWORD"] == "hunter2-index"
        assert environment["UV_INDEX"] == f"corp={URL} two=https://two.example"
        assert made["build"]["tokens"] == {"UV_INDEX_TWO_PASSWORD": ["two", ["vault", "hunter2-arg"]]}
        assert not {name for name in made["environment"] if "INDEX" in name or "NETRC" in name}
        shown = json.dumps(public_view(made))
        assert "hunter2" not in shown
        assert "a token, printed by vault on the controller" in shown
    twice = ask({"UV_INDEX_CORP_PASSWORD": "hunter2-old"}, app={"indexes": [CORP]})
    assert codes(twice["warnings"]) == ["index_credentials_twice"]
    assert twice["build"]["environment"]["UV_INDEX_CORP_PASSWORD"] == "hunter2-index"


LOCK = """version = 1

[[package]]
name = "open"
version = "1"
source = {{ registry = "{open}" }}

[[package]]
name = "toya"
version = "1"
source = {{ registry = "{there}" }}
wheels = [{{ url = "{there}/toya-1.whl" }}]
"""


@pytest.mark.parametrize(
    ("there", "leaks"),
    [
        ("https://me:hunter2@index.example/simple", True),
        ("https://:hunter2@index.example/simple", True),
        ("https://index.example/simple", False),
        ("https://aws@index.example/simple", False),  # whom a keyring is asked for
        ("ssh://git@index.example:22/x@1", False),
    ],
)
def test_i_a_lock_with_a_password_is_refused_by_package(there: str, leaks: bool) -> None:
    registries, leaking = lock.addresses(LOCK.format(open=URL, there=there).replace("\n", "\r\n"))
    assert registries == list(dict.fromkeys([URL, there]))
    assert leaking == (["toya"] if leaks else [])
    source = {**INPUTS["source"], "addresses": {"uv.lock": [registries, leaking]}}
    errors = ask(source=source)["errors"]
    assert codes(errors) == (["source_credentials"] if leaks else [])
    if leaks:
        assert (errors[0]["variable"], errors[0]["value"]) == ("uv.lock", "package toya")
        assert "hunter2" not in json.dumps(errors)


def test_i_a_password_in_any_file_about_packages_is_refused_by_line() -> None:
    pyproject = '[project]\nname = "shop"\n[[tool.uv.index]]\nname = "c"\nurl = "https://u:hunter2@x.example"\n'
    error = only(ask(texts={"pyproject.toml": pyproject})["errors"], "source_credentials")
    assert (error["variable"], error["value"]) == ("pyproject.toml", "line 5")
    assert "hunter2" not in json.dumps(error)
    fine = legacy(texts={"requirements.txt": "--extra-index-url https://${USER}:${TOKEN}@x.example/simple\nflask\n"})
    assert fine["errors"] == []
    wrong = legacy(texts={"requirements.txt": "flask\n--extra-index-url https://u:hunter2@x.example/simple\n"})
    assert only(wrong["errors"], "source_credentials")["value"] == "line 2"


SHOWN = [
    {"name": "corp", "url": URL, "way": "token_command", "origin": "a token"},
    {"name": "team", "url": "https://index.example/team/simple", "way": "env", "origin": "two variables"},
    {"name": "far", "url": "https://far.example/simple", "way": "none", "origin": "none"},
]


@pytest.mark.parametrize(
    ("words", "name", "step"),
    [
        (
            "error: Failed to download `a==1`\n  cause: Failed to fetch: https://index.example/simple/a/a-1.whl\n"
            "  cause: HTTP status client error (401 Unauthorized) for url (https://index.example/simple/a/a-1.whl)",
            "corp",
            "Run the token_command of corp by hand: its token may have expired",
        ),
        (
            "hint: An index URL (https://index.example/team/simple) could not be queried due to a lack of valid authentication "
            "credentials (403 Forbidden)",
            "team",
            "Correct the two variables of team in app_env",
        ),
        (
            "  × x\n  ╰─▶ HTTP status client error (401 Unauthorized) for url\n      (https://far.example/packages/a.whl)",
            "far",
            "Give far credentials in app_indexes",
        ),
    ],
)
def test_h2_a_refusal_names_the_index_and_where_its_credentials_came_from(words: str, name: str, step: str) -> None:
    for classified in (uv.classify_failure(words), legacy_verdicts.classify(words)):
        verdict, facts = indexes.refused(words, SHOWN, classified)
        assert verdict.reason == "index_unauthorized"
        status = "403 Forbidden" if "403" in words else "401 Unauthorized"
        assert verdict.what == f"The package index {name} refused the build: {status}."
        assert verdict.next_step.startswith(step)
        assert dict(facts)["Index"].startswith(name + " (https://")


def test_h2_a_refusal_by_an_unknown_host_lists_what_is_known_and_other_failures_stay_as_they_are() -> None:
    words = "HTTP status client error (401 Unauthorized) for url (https://cdn.example/a.whl)"
    verdict, facts = indexes.refused(words, SHOWN, uv.classify_failure(words))
    assert verdict == uv.classify_failure(words)
    assert "corp (a token), team (two variables)" in dict(facts)["Indexes"]
    other = uv.classify_failure("Connection refused https://index.example/simple")
    assert indexes.refused("https://index.example/simple", SHOWN, other) == (other, [])


def test_h2_credentials_are_in_no_key_that_decides_what_is_built() -> None:
    given = {"UV_INDEX_CORP_USERNAME": "u", "UV_INDEX_CORP_PASSWORD": "p", "UV_KEYRING_PROVIDER": "subprocess"}
    assert venvs.steering({**given, "UV_INDEX": "corp=x"}) == {"UV_INDEX": "corp=x"}
    sent = shipping.for_receiver({**given, indexes.NETRC_TEXT: "machine x", "UV_INDEX": "corp=x"})
    assert sent == {"UV_INDEX": "corp=x", "UV_OFFLINE": "1"}
    one, other = ([{**CORP, "password": each}] for each in ("a", "b"))
    assert indexes.whereabouts(one) == indexes.whereabouts(other) == [["corp", URL, False]]


def test_h2_pip_gets_the_credentials_of_a_named_index_in_its_address() -> None:
    env = {
        "UV_INDEX": f"corp={URL} https://open.example",
        "UV_INDEX_CORP_USERNAME": "aws",
        "UV_INDEX_CORP_PASSWORD": "a/b@c",
    }
    added, _said = pip_settings.for_pip(env, None)
    assert added["PIP_EXTRA_INDEX_URL"] == "https://aws:a%2Fb%40c@index.example/simple https://open.example"
    assert pip_settings.for_pip({"UV_INDEX": f"corp={URL}"}, None)[0]["PIP_EXTRA_INDEX_URL"] == URL


def test_h2_the_passwords_of_a_netrc_are_secrets() -> None:
    assert indexes.netrc_secrets('machine a login b password "c d"\nmachine e login f\n  password gh\n') == [
        "c d",
        "gh",
    ]


def test_h2_the_hosts_own_indexes_take_presets_and_are_found_again(tmp_path: Any) -> None:
    entries: list[dict[str, Any]] = [
        {
            "name": "corp",
            "preset": "google",
            "region": "r",
            "project": "p",
            "repository": "x",
            "authenticate": "always",
        },
        {"name": "plain", "url": URL, "default": True},
    ]
    settings = uv_config.effective("0.13.8", {"keyring-provider": "subprocess", "pip": {"strict": True}}, entries)
    assert uv_config.problems(settings) == []
    (tmp_path / "uv.toml").write_text(uv_config.render(settings))
    address = "https://r-python.pkg.dev/p/x/simple/"
    assert uv_config.named_indexes(str(tmp_path / "uv.toml")) == {"corp": address, "plain": URL}
    assert uv_config.named_indexes(str(tmp_path / "none")) == {}
    wrong = uv_config.effective("0.13.8", {}, [{"name": "corp", "preset": "google", "region": "r"}])
    assert uv_config.problems(wrong)[:2] == [
        "uv_indexes[0]: project is missing.",
        "uv_indexes[0]: repository is missing.",
    ]
