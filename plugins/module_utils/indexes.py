# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private and alternative package indexes (H2): their addresses, the variables that a build needs, what a refusal means. Pure.

Tokens are not here: the controller fetches them when a host has something to build, and puts them where `Indexes.tokens` says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any
from urllib.parse import quote

from ansible_collections.pyfleet.runtime.plugins.module_utils.findings import SECRET, Finding, finding, visible
from ansible_collections.pyfleet.runtime.plugins.module_utils.uv import Verdict, index_variable_stem

VARIABLE, NETRC_VARIABLE = "app_indexes", "app_netrc"
#: Carries the text of `app_netrc` to the build, which makes a file of it. No process sees it.
NETRC_TEXT = "PYFLEET_NETRC"


@dataclass(frozen=True)
class Preset:
    """What is fixed for one vendor's indexes: the form of the address and the user name that goes with a token.

    `parts` fill the braces of `address`; `hosts` are those of them that end up in the host name; of `address` without an optional
    part there is a second form. `keyring` is the plugin of the program keyring.
    """

    title: str
    address: str
    parts: tuple[str, ...]
    username: str | None
    hosts: tuple[str, ...] = ()
    shorter: str = ""
    optional: str = ""
    keyring: str = ""


PRESETS: Mapping[str, Preset] = {
    "azure": Preset(
        "Azure Artifacts",
        "https://pkgs.dev.azure.com/{organization}/{project}/_packaging/{feed}/pypi/simple/",
        ("organization", "project", "feed"),
        "VssSessionToken",  # any name will do with a token; the keyring's plugin wants this one
        shorter="https://pkgs.dev.azure.com/{organization}/_packaging/{feed}/pypi/simple/",
        optional="project",
        keyring="artifacts-keyring",
    ),
    "google": Preset(
        "Google Artifact Registry",
        "https://{region}-python.pkg.dev/{project}/{repository}/simple/",
        ("region", "project", "repository"),
        "oauth2accesstoken",
        hosts=("region",),
        keyring="keyrings.google-artifactregistry-auth",
    ),
    "codeartifact": Preset(
        "AWS CodeArtifact",
        "https://{domain}-{account}.d.codeartifact.{region}.amazonaws.com/pypi/{repository}/simple/",
        ("domain", "account", "region", "repository"),
        "aws",
        hosts=("domain", "account", "region"),
        keyring="keyrings.codeartifact",
    ),
    "artifactory": Preset(
        "JFrog Artifactory",
        "https://{host}/artifactory/api/pypi/{repository}/simple",
        ("host", "repository"),
        "",  # with a token; a password has the user's own
        hosts=("host",),
    ),
}
PARTS = frozenset(part for preset in PRESETS.values() for part in preset.parts)
KEYS = frozenset({"name", "url", "preset", "default", "username", "password", "token_command", "keyring"}) | PARTS
WAYS = ("password", "token_command", "keyring")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?\Z")
_PART = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._ -]*[A-Za-z0-9])?\Z")
_ADDRESS = re.compile(r"(https?|file)://[^\s]+\Z")
_USER_PART = re.compile(r"(?<=://)[^/@\s]*@")
_NETRC = re.compile(r"^\s*(machine\s+\S+|default\b)", re.MULTILINE)
_NETRC_SECRET = re.compile(r'\b(?:password|account)\s+(?:"((?:[^"\\]|\\.)*)"|(\S+))')
#: A user and a password in an address. A user alone is how uv's guides name whom a keyring is asked for; `${NAME}` is a variable.
_PASSWORD_IN_ADDRESS = re.compile(r"://[^/\s@'\"]*:(?!\$\{\w+\}@)[^/\s@'\"]+@")


@dataclass(frozen=True)
class Indexes:
    """What the build needs for its indexes. `variables` and `netrc` hold secrets.

    `tokens` is variable → index and command of what the controller has yet to fetch; `shown` has `name`, `url`, `way` and `origin` of
    every index, for people and for the build's own messages.
    """

    variables: Mapping[str, str] = field(default_factory=dict)
    tokens: Mapping[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    shown: tuple[dict[str, str], ...] = ()
    findings: tuple[Finding, ...] = ()


def variable(name: str, what: str) -> str:
    """The variable of an index's `username` or `password`."""
    return f"UV_INDEX_{index_variable_stem(name)}_{what.upper()}"


def address(entry: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The address of an entry by its `url` or `preset`, "" when it has neither, and what is wrong, each as the end of a sentence."""
    name, url = entry.get("preset"), entry.get("url")
    if name is None:
        wrong = [] if url is None or _ADDRESS.match(str(url)) else ["its url is no address (https://…)"]
        if isinstance(url, str) and _USER_PART.search(url):
            wrong.append("its url holds a user or a password, which have keys of their own")
        wrong += [f"{part} belongs to a preset" for part in sorted(PARTS & set(entry))]
        return ("" if url is None or wrong else str(url)), wrong
    preset = PRESETS.get(name) if isinstance(name, str) else None
    if preset is None:
        return "", [f"{visible(name)} is not a preset; there are {', '.join(sorted(PRESETS))}"]
    wrong = ["it has a url and a preset"] if url is not None else []
    wrong += [f"{part} is not a part of {name}" for part in sorted((PARTS & set(entry)) - set(preset.parts))]
    values = {}
    for part in preset.parts:
        value = entry.get(part)
        if value is None:
            wrong += [] if part == preset.optional else [f"{part} is missing"]
            continue
        text = str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
        if not (_LABEL if part in preset.hosts else _PART).match(text):
            wrong.append(f"{part} is not one: {visible(value)}")
        elif part == "account" and not re.match(r"[0-9]{12}\Z", text):
            wrong.append("account is not 12 digits; write them in quotes")
        values[part] = text if part in preset.hosts else quote(text, safe="")
    if wrong:
        return "", wrong
    form = preset.shorter if preset.optional and preset.optional not in values else preset.address
    return form.format(**values), []


def whereabouts(entries: object) -> list[list[Any]]:
    """What of `app_indexes` decides on the content of a release: names and addresses, and nothing of credentials."""
    given = [entry for entry in entries if isinstance(entry, Mapping)] if isinstance(entries, (list, tuple)) else []
    return [[str(entry.get("name")), address(entry)[0], bool(entry.get("default"))] for entry in given]


def username(entry: Mapping[str, Any]) -> str | None:
    """The user name of an entry, its own or its preset's; None where there is none. The empty one is a name, too."""
    if entry.get("username") is not None:
        return str(entry["username"])
    preset = PRESETS.get(str(entry.get("preset")))
    return preset.username if preset else None


def command_problem(command: object) -> str:
    """What is wrong with a token_command; "" when nothing is."""
    if (
        isinstance(command, (list, tuple))
        and command
        and all(isinstance(part, str) and "\0" not in part for part in command)
        and str(command[0]).strip()
    ):
        return ""
    return "its token_command is not a list of texts, program first ([aws, codeartifact, …]); no shell runs it"


def read(
    entries: object,
    netrc: object,
    env: Mapping[str, str],
    *,
    declared: Iterable[Mapping[str, Any]] | None = (),
    host: Mapping[str, Any] | None = None,
    registries: Iterable[str] = (),
    anywhere: bool = False,
) -> Indexes:
    """What `app_indexes`, `app_netrc` and the environment say about indexes, and all that is wrong.

    `declared` are those that the project names (None: nobody could read them), `host` the host's facts with `indexes` and `keyring`
    (None: no host is looked at), `registries` the addresses in uv.lock. `anywhere` says that another host may build for this one.
    """
    findings: list[Finding] = []
    places = _places(declared, host, env)
    given, found = _entries(entries)
    findings += found
    variables: dict[str, str] = {}
    tokens: dict[str, tuple[str, tuple[str, ...]]] = {}
    shown: dict[str, dict[str, str]] = {}
    added, default = [], ""
    spelled = {_bare(each): each for each in registries}
    for number, entry in given:
        name, stem = str(entry["name"]), index_variable_stem(str(entry["name"]))
        url, _wrong = address(entry)
        # Names that differ may share their variables, and what these hold goes to each of them.
        place, *others = places.get(stem) or [""]
        if not url and not place and declared is not None and host is not None:
            findings.append(finding("index_unknown", f"{VARIABLE}[{number}]", name))
        there = next((each for each in (place, *others) if each and _bare(each) != _bare(url or place)), "")
        if there:
            there, here = _without_user(there), url or _without_user(place)
            findings.append(finding("index_address_differs", f"{VARIABLE}[{number}]", here, name=name, there=there))
        if url and not place and declared is not None:
            # uv compares addresses letter by letter with those of the lock.
            url = spelled.get(_bare(url), url)
            if entry.get("default"):
                default = f"{name}={url}"
            else:
                added.append(f"{name}={url}")
        way = next((each for each in WAYS if entry.get(each)), "")
        user = username(entry) if way or entry.get("username") is not None else None
        if user is not None:
            variables[variable(name, "username")] = user
        if way == "password":
            variables[variable(name, "password")] = str(entry["password"])
        elif way == "token_command":
            tokens[variable(name, "password")] = (name, tuple(entry["token_command"]))
        elif way == "keyring":
            variables["UV_KEYRING_PROVIDER"] = "subprocess"
            if host is not None and host.get("keyring") is False and "PATH" not in env and not anywhere:
                plugin = PRESETS[entry["preset"]].keyring if entry.get("preset") else ""
                tool = "{name: keyring" + (f", with: [{plugin}]" if plugin else "") + "}"
                findings.append(finding("index_keyring_missing", f"{VARIABLE}[{number}]", name, tool=tool))
        shown[stem] = _shown(name, url or place, way, entry, bool(netrc))
        if way and any(env.get(variable(name, what)) for what in ("username", "password")):
            findings.append(finding("index_credentials_twice", f"{VARIABLE}[{number}]", name, stem=stem))
    for stem, (place, *_others) in places.items():
        name = next(each for each in _names(declared, host, env) if index_variable_stem(each) == stem)
        way = "env" if env.get(variable(name, "password")) or env.get(variable(name, "username")) else ""
        shown.setdefault(stem, _shown(name, place, way, {}, bool(netrc)))
    if added:
        variables["UV_INDEX"] = " ".join([*env.get("UV_INDEX", "").split(), *added])
    if default:
        variables["UV_DEFAULT_INDEX"] = default
    if isinstance(netrc, str) and (not netrc.strip() or _NETRC.search(netrc)):
        variables.update({NETRC_TEXT: netrc} if netrc.strip() else {})
    elif netrc is not None:
        expected, example = "the text of a netrc file", "machine INDEX login USER password PASSWORD"
        findings.append(finding("option_invalid", NETRC_VARIABLE, SECRET, expected=expected, example=example))
    return Indexes(variables, tokens, tuple(shown.values()), tuple(findings))


def _entries(entries: object) -> tuple[list[tuple[int, Mapping[str, Any]]], list[Finding]]:
    """The usable entries with their places in the list, and what is wrong with the others."""
    if entries is None:
        return [], []
    if not isinstance(entries, (list, tuple)):
        expected, example = "a list of indexes", "[{name: corp, url: https://…, username: …, password: …}]"
        return [], [finding("option_invalid", VARIABLE, SECRET, expected=expected, example=example)]
    given: list[tuple[int, Mapping[str, Any]]] = []
    findings: list[Finding] = []
    stems: set[str] = set()
    for number, entry in enumerate(entries):
        wrong = _wrong(entry)
        name = str(entry.get("name", "")) if isinstance(entry, Mapping) else ""
        if not wrong and index_variable_stem(name) in stems:
            wrong = [f"another entry has the same variables, {variable(name, 'password')}"]
        findings += [finding("index_entry", f"{VARIABLE}[{number}]", name or "(no name)", why=each) for each in wrong]
        if not wrong:
            stems.add(index_variable_stem(name))
            given.append((number, entry))
    return given, findings


def _wrong(entry: object) -> list[str]:
    """What is wrong with one entry, each as the end of a sentence; nothing of a secret."""
    if not isinstance(entry, Mapping):
        return ["it is not a mapping"]
    wrong = [f"{visible(key)} is not a key of it" for key in entry if key not in KEYS]
    if not isinstance(entry.get("name"), str) or not _NAME.match(entry["name"]):
        wrong.append("its name is not letters, digits, dots, hyphens and underscores")
    wrong += address(entry)[1]
    wrong += [f"its {key} is not true or false" for key in ("default", "keyring") if not _is_switch(entry.get(key))]
    ways = [way for way in WAYS if entry.get(way)]
    if len(ways) > 1:
        wrong.append(f"it has {' and '.join(ways)}, of which one says where the password comes from")
    wrong += [
        f"its {key} is not a text of one line"
        for key in ("username", "password")
        if entry.get(key) is not None and not _is_line(entry[key])
    ]
    if entry.get("token_command") is not None:
        wrong += [problem for problem in [command_problem(entry["token_command"])] if problem]
    if ways and username(entry) is None:
        wrong.append("its username is missing (write '' where the index wants none)")
    elif ways == ["keyring"] and not username(entry):
        wrong.append("its username is missing, for which the keyring is asked")
    return wrong


def _is_switch(value: object) -> bool:
    return value is None or isinstance(value, bool)


def _is_line(value: object) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool) and str(value).isprintable()


def _names(
    declared: Iterable[Mapping[str, Any]] | None, host: Mapping[str, Any] | None, env: Mapping[str, str]
) -> dict[str, list[str]]:
    """name → addresses of the indexes that are known besides `app_indexes`; names that win come last, addresses that do first."""
    found = {str(name): [str(url)] for name, url in dict((host or {}).get("indexes") or {}).items()}
    project: dict[str, list[str]] = {}
    for each in declared or ():
        if each.get("name"):
            project.setdefault(str(each["name"]), []).append(str(each.get("url")))
    found.update(project)
    for text in (env.get("UV_DEFAULT_INDEX", ""), env.get("UV_INDEX", "")):
        for part in text.split():
            name, equals, url = part.partition("=")
            if equals and _NAME.match(name):
                found[name] = [url]
    return found


def _places(
    declared: Iterable[Mapping[str, Any]] | None, host: Mapping[str, Any] | None, env: Mapping[str, str]
) -> dict[str, list[str]]:
    """Variables' stem → addresses; what wins comes first."""
    found: dict[str, list[str]] = {}
    for name, urls in _names(declared, host, env).items():
        found.setdefault(index_variable_stem(name), [])[:0] = urls
    return found


def _bare(url: str) -> str:
    return _without_user(url).rstrip("/")


def _without_user(url: str) -> str:
    return _USER_PART.sub("", url)


def _shown(name: str, url: str, way: str, entry: Mapping[str, Any], netrc: bool) -> dict[str, str]:
    way = way or ("netrc" if netrc else "none")
    command = entry.get("token_command") or [""]
    origins = {
        "password": f"the user name and password of {VARIABLE}",
        "token_command": f"a token, printed by {visible(command[0])} on the controller ({VARIABLE})",
        "keyring": f"the keyring of the host, asked for {visible(username(entry) or '')} ({VARIABLE})",
        "env": f"{variable(name, 'username')} and _PASSWORD of app_env",
        "netrc": NETRC_VARIABLE,
        "none": "none",
    }
    return {"name": name, "url": _without_user(url), "way": way, "origin": origins[way]}


_NEXT: Mapping[str, str] = {
    "password": "Correct the password of {name} in app_indexes",
    "token_command": "Run the token_command of {name} by hand: its token may have expired, or its account may not read this index",
    "keyring": "Ask as the application's user on the host, with its HOME: keyring get {url} USER. See that it prints a password that the "
    "index takes (role uv: uv_tools)",
    "env": "Correct the two variables of {name} in app_env",
    "netrc": "Correct the machine of {url} in app_netrc",
    "none": "Give {name} credentials in app_indexes",
}


def refused(words: str, shown: Sequence[Mapping[str, str]], verdict: Verdict) -> tuple[Verdict, list[tuple[str, str]]]:
    """The verdict on a build that an index refused, naming the index and where its credentials came from, and facts to show.

    `words` are uv's or pip's, `verdict` what they mean by themselves. The address of a package tells its index: same host, and most of
    the path. Any other verdict is returned as it is.
    """
    if verdict.reason != "index_unauthorized":
        return verdict, []
    flat = re.sub(r"[\s│├─▶╰×]+", " ", words)
    denied = re.search(r"https?://\S+?[\s)`'\"]+[^.]{0,90}?\b40[13]\b|\b40[13]\b.{0,60}?(?=https?://)\S+", flat)
    asked = re.findall(r"https?://[^\s`'\")]+", denied.group() if denied else flat)
    best = max(
        ((_likeness(each["url"], url), each) for each in shown for url in asked),
        key=lambda pair: pair[0],
        default=(0, {}),
    )
    if not best[0]:
        known = ", ".join(f"{each['name']} ({each['origin']})" for each in shown)
        return verdict, [("Indexes", known)] if known else []
    index = best[1]
    status = "403 Forbidden" if re.search(r"\b403\b", denied.group() if denied else flat) else "401 Unauthorized"
    return Verdict(
        verdict.reason,
        f"The package index {index['name']} refused the build: {status}.",
        "H2: an index gets the credentials of app_indexes, or UV_INDEX_<NAME>_USERNAME and UV_INDEX_<NAME>_PASSWORD of app_env",
        _NEXT[index["way"]].format(name=index["name"], url=index["url"])
        + ", then deploy again; the running release is untouched.",
    ), [("Index", f"{index['name']} ({index['url']})"), ("Password", index["origin"])]


def _likeness(index: str, url: str) -> int:
    """How much of an index's address another one shares, in parts of the path from 1 on; 0 for another host."""
    mine, other = (re.sub(r"^[a-z]+://", "", _without_user(each)).split("/") for each in (index, url))
    return (
        0
        if mine[0] != other[0]
        else 1 + len(list(takewhile(lambda pair: pair[0] == pair[1], zip(mine[1:], other[1:]))))
    )


def netrc_secrets(text: str) -> list[str]:
    """The passwords in a netrc, to scrub from any output."""
    return [quoted or plain for quoted, plain in _NETRC_SECRET.findall(text)]


def is_about_packages(path: str) -> bool:
    """Whether the plan's text of this name says where packages come from."""
    return path.endswith((".toml", ".txt", ".in", ".pip"))


def with_password(text: str) -> list[int]:
    """The lines that hold a user and a password in an address, counted from 1."""
    return [number for number, line in enumerate(text.splitlines(), 1) if _PASSWORD_IN_ADDRESS.search(line)]


__all__ = [
    "KEYS",
    "NETRC_TEXT",
    "PARTS",
    "PRESETS",
    "Indexes",
    "Preset",
    "address",
    "command_problem",
    "is_about_packages",
    "netrc_secrets",
    "read",
    "refused",
    "username",
    "variable",
    "whereabouts",
    "with_password",
]
