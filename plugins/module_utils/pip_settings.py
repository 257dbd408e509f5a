# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What steers pip in an application's environment, said to uv (contract B7: pip's semantics are kept).

uv does not read `PIP_*` variables. The tables say what each becomes; a variable of uv's own that says the same wins. What uv
has no word for is named, so that nobody looks for the effect in vain.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from ansible_collections.pyfleet.runtime.plugins.module_utils import indexes
from ansible_collections.pyfleet.runtime.plugins.module_utils.environment import is_true


def _words(value: str) -> list[str]:
    return value.split()


def _commas(value: str) -> list[str]:
    return [part for part in re.split(r"[\s,]+", value) if part]


@dataclass(frozen=True)
class _Variable:
    """A variable of pip that becomes one of uv. `rivals` are uv's own variables that win."""

    name: str
    rivals: tuple[str, ...]
    convert: Callable[[str], str | None] = str.strip


def _flag(value: str) -> str | None:
    return "1" if is_true(value) else None


def _always(_value: str) -> str | None:
    return "1"


def _keyring(value: str) -> str | None:
    # uv knows the program `keyring` only; pip's `auto` and `import` find the same passwords through it.
    return "disabled" if value.strip() == "disabled" else "subprocess"


VARIABLES: dict[str, _Variable] = {
    "PIP_INDEX_URL": _Variable("UV_DEFAULT_INDEX", ("UV_DEFAULT_INDEX", "UV_INDEX_URL")),
    "PIP_EXTRA_INDEX_URL": _Variable("UV_EXTRA_INDEX_URL", ("UV_EXTRA_INDEX_URL", "UV_INDEX")),
    "PIP_FIND_LINKS": _Variable("UV_FIND_LINKS", ("UV_FIND_LINKS",), lambda value: ",".join(_words(value))),
    "PIP_TRUSTED_HOST": _Variable("UV_INSECURE_HOST", ("UV_INSECURE_HOST",)),
    "PIP_CONSTRAINT": _Variable("UV_CONSTRAINT", ("UV_CONSTRAINT",)),
    "PIP_BUILD_CONSTRAINT": _Variable("UV_BUILD_CONSTRAINT", ("UV_BUILD_CONSTRAINT",)),
    "PIP_PRE": _Variable("UV_PRERELEASE", ("UV_PRERELEASE",), lambda value: "allow" if is_true(value) else None),
    "PIP_REQUIRE_HASHES": _Variable("UV_REQUIRE_HASHES", ("UV_REQUIRE_HASHES",), _flag),
    # pip reads this one upside down: `false` is how one switches isolation off. Whoever sets it at all means that.
    "PIP_NO_BUILD_ISOLATION": _Variable("UV_NO_BUILD_ISOLATION", ("UV_NO_BUILD_ISOLATION",), _always),
    "PIP_CERT": _Variable("SSL_CERT_FILE", ("SSL_CERT_FILE",)),
    "PIP_CLIENT_CERT": _Variable("SSL_CLIENT_CERT", ("SSL_CLIENT_CERT",)),
    "PIP_PROXY": _Variable("ALL_PROXY", ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy")),
    "PIP_DEFAULT_TIMEOUT": _Variable("UV_HTTP_TIMEOUT", ("UV_HTTP_TIMEOUT",)),
    "PIP_TIMEOUT": _Variable("UV_HTTP_TIMEOUT", ("UV_HTTP_TIMEOUT",)),
    "PIP_RETRIES": _Variable("UV_HTTP_RETRIES", ("UV_HTTP_RETRIES",)),
    "PIP_KEYRING_PROVIDER": _Variable("UV_KEYRING_PROVIDER", ("UV_KEYRING_PROVIDER",), _keyring),
    "PIP_UPLOADED_PRIOR_TO": _Variable("UV_EXCLUDE_NEWER", ("UV_EXCLUDE_NEWER",)),
}


def _each(flag: str) -> Callable[[str], list[str]]:
    return lambda value: [part for package in _commas(value) for part in (flag, package)]


def _alone(flag: str) -> Callable[[str], list[str]]:
    return lambda value: [flag] if is_true(value) else []


#: Variables that become options.
OPTIONS: dict[str, Callable[[str], list[str]]] = {
    "PIP_NO_BINARY": _each("--no-binary"),
    "PIP_ONLY_BINARY": _each("--only-binary"),
    "PIP_NO_INDEX": _alone("--no-index"),
    "PIP_NO_DEPS": _alone("--no-deps"),
}

#: Variables that would install somewhere else than into the release's environment (B9): left out, with a warning.
ELSEWHERE = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_PYTHON")

#: Variables that say how pip speaks, caches or asks: without effect on what is installed.
WITHOUT_EFFECT = frozenset(
    "PIP_" + name
    for name in (
        *(
            "DISABLE_PIP_VERSION_CHECK",
            "NO_INPUT",
            "PROGRESS_BAR",
            "NO_COLOR",
            "QUIET",
            "VERBOSE",
            "LOG",
            "DEBUG",
            "SRC",
        ),
        *(
            "ROOT_USER_ACTION",
            "NO_WARN_SCRIPT_LOCATION",
            "NO_WARN_CONFLICTS",
            "NO_PYTHON_VERSION_WARNING",
            "EXISTS_ACTION",
        ),
        *("BREAK_SYSTEM_PACKAGES", "CACHE_DIR", "NO_CACHE_DIR", "COMPILE", "NO_COMPILE", "UPGRADE", "UPGRADE_STRATEGY"),
        *("REQUIRE_VIRTUALENV", "NO_CLEAN", "IGNORE_INSTALLED", "FORCE_REINSTALL", "USE_PEP517"),
    )
)

#: Backwards, for an environment whose own pip installs (Python 2.7).
TO_PIP: dict[str, tuple[str, ...]] = {
    "PIP_INDEX_URL": ("UV_DEFAULT_INDEX", "UV_INDEX_URL"),
    "PIP_EXTRA_INDEX_URL": ("UV_EXTRA_INDEX_URL", "UV_INDEX"),
    "PIP_FIND_LINKS": ("UV_FIND_LINKS",),
    "PIP_TRUSTED_HOST": ("UV_INSECURE_HOST",),
    "PIP_CONSTRAINT": ("UV_CONSTRAINT",),
}


#: What pip says or looks up about itself helps nobody in a build.
QUIET = ("PIP_DISABLE_PIP_VERSION_CHECK", "PIP_NO_PYTHON_VERSION_WARNING", "PIP_NO_INPUT")


@dataclass
class Translation:
    """What the `PIP_*` variables of an environment mean to uv."""

    variables: dict[str, str] = field(default_factory=dict)
    options: list[str] = field(default_factory=list)
    #: One entry per variable that had an effect: `PIP_INDEX_URL -> UV_DEFAULT_INDEX`. Names only.
    translated: list[str] = field(default_factory=list)
    #: What people should know: names, never values.
    warnings: list[str] = field(default_factory=list)


def translate(environment: Mapping[str, str]) -> Translation:
    """Returns what the environment's `PIP_*` variables become for uv."""
    result = Translation()
    for name in sorted(environment):
        value = environment[name]
        if not name.startswith("PIP_") or not value.strip():
            continue
        if name in VARIABLES:
            target = VARIABLES[name]
            own = next((rival for rival in target.rivals if environment.get(rival)), None)
            converted = target.convert(value)
            if own is not None:
                result.warnings.append(f"{name} is left aside: {own} says the same to uv, and uv's own variable wins.")
            elif converted is not None:
                result.variables[target.name] = converted
                result.translated.append(f"{name} -> {target.name}")
        elif name in OPTIONS:
            options = OPTIONS[name](value)
            if options:
                result.options += options
                result.translated.append(f"{name} -> {options[0]}")
        elif name in ELSEWHERE:
            result.warnings.append(
                f"{name} is left out: packages go into the release's own environment and nowhere else (B9)."
            )
        elif name not in WITHOUT_EFFECT:
            result.warnings.append(f"{name} has no effect: packages are installed by uv, which knows nothing like it.")
    # pip looks at all indexes for the best version, uv by itself at the first one that has the package.
    if not environment.get("UV_INDEX_STRATEGY"):
        result.variables["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return result


def _with_credentials(part: str, environment: Mapping[str, str]) -> str:
    """An index that uv names (`name=address`) as pip takes it, which knows credentials in the address only (H2)."""
    named = re.match(r"([A-Za-z0-9._-]+)=(\w+://)(?=[^@/]*(?:/|\Z))", part)
    words = (
        [environment.get(indexes.variable(named.group(1), what)) for what in ("username", "password")] if named else []
    )
    if named is None or words[1] is None:
        return re.sub(r"^[A-Za-z0-9._-]+=", "", part)
    return f"{named.group(2)}{quote(words[0] or '', safe='')}:{quote(words[1], safe='')}@{part[named.end() :]}"


def for_pip(environment: Mapping[str, str], bundle: str | None) -> tuple[dict[str, str], list[str]]:
    """Returns what pip itself needs besides the environment, and what was translated.

    `bundle` is the host's certificate bundle where pip has to trust it instead of its own.
    """
    added = {name: "1" for name in QUIET if name not in environment}
    translated: list[str] = []
    for name, sources in TO_PIP.items():
        if environment.get(name):
            continue
        # uv may name an index (`name=address`), and separates local folders by commas.
        values = [
            _with_credentials(part, environment)
            for source in sources
            for part in (
                _commas(environment.get(source, ""))
                if name == "PIP_FIND_LINKS"
                else _words(environment.get(source, ""))
            )
        ]
        if values:
            added[name] = " ".join(values)
            translated.append(f"{next(source for source in sources if environment.get(source))} -> {name}")
    if bundle and not environment.get("PIP_CERT"):
        added["PIP_CERT"] = bundle
    return added, translated


__all__ = [
    "ELSEWHERE",
    "OPTIONS",
    "QUIET",
    "TO_PIP",
    "VARIABLES",
    "WITHOUT_EFFECT",
    "Translation",
    "for_pip",
    "translate",
]
