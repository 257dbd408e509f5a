# Copyright: (c) 2026, the pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each service of the Request Flow chain is told (F5, F6, F8 to F11), and every error that it would meet at its start.

Pure: the environment, the source's files and a few facts of the host in, settings and findings out. The settings hold secrets;
`public` is what may be shown.
"""

from __future__ import annotations

import base64
import calendar
import datetime
import ipaddress
import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ansible_collections.pyfleet.runtime.plugins.module_utils import command as commands
from ansible_collections.pyfleet.runtime.plugins.module_utils import varnish
from ansible_collections.pyfleet.runtime.plugins.module_utils.environment import (
    has_credentials,
    is_true,
    scrub,
    secret_values,
    show,
)
from ansible_collections.pyfleet.runtime.plugins.module_utils.findings import SECRET, Finding, finding
from ansible_collections.pyfleet.runtime.plugins.module_utils.settings import relative_path

CHALLENGE_SECRET = "OTOROSHI_CHALLENGE_SECRET"  # noqa: S105 - the variable's name
EXCLUDE_PATHS = "OTOROSHI_CHALLENGE_EXCLUDE_PATHS"
VARNISH_FILE = "CC_VARNISH_FILE"
VARNISH_DEFAULT = "clevercloud/varnish.vcl"
VARNISH_STORAGE = "CC_VARNISH_STORAGE_SIZE"
CUSTOM = "CC_REQUEST_FLOW_CUSTOM"
PROJECT_KEY = "CC_REDIRECTIONIO_PROJECT_KEY"
FORWARD_PORT = "CC_REDIRECTIONIO_FORWARD_PORT"
OAUTH2 = "OAUTH2_PROXY_"

#: Where role request_flow puts programs that it brings, named after their checksum.
PROGRAMS = "/opt/pyfleet/bin"

# A guessable secret lets anybody sign requests; HS512 wants more, but what Otoroshi was given has to be taken.
_SHORT_SECRET = 16
# HAProxy reads lines of up to 2048 characters, and the secret stands on one in base64.
_LONG_SECRET = 1024
_LONG_PATH = 512
_MIB = 1024 * 1024
# What is longer may have been cut where the source was read.
_VCL_LIMIT = 512 * 1024
# What verifies JWT came with HAProxy 2.5; `http-request return` with 2.2.
_HAPROXY = {"otoroshi-challenge": (2, 5), "block": (2, 2)}
_HAPROXY_OF = {
    ("debian", "10"): (1, 8),
    ("debian", "11"): (2, 2),
    ("ubuntu", "20.04"): (2, 0),
    ("ubuntu", "22.04"): (2, 4),
}
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d(?::\d\d)?)(?:\.\d+)? ?(Z|[+-]\d\d:?\d\d)\Z", re.ASCII)
_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)([kmgt]?)b?\Z", re.IGNORECASE | re.ASCII)

# oauth2-proxy reads the plural of these lists, and nobody reads the singular.
_LISTS = {
    "API_ROUTE": "API_ROUTES",
    "ALLOWED_GROUP": "ALLOWED_GROUPS",
    "ALLOWED_ROLE": "ALLOWED_ROLES",
    "COOKIE_DOMAIN": "COOKIE_DOMAINS",
    "EMAIL_DOMAIN": "EMAIL_DOMAINS",
    "ENTRA_ID_ALLOWED_TENANT": "ENTRA_ID_ALLOWED_TENANTS",
    "EXTRA_JWT_ISSUER": "EXTRA_JWT_ISSUERS",
    "GITHUB_USER": "GITHUB_USERS",
    "GITLAB_GROUP": "GITLAB_GROUPS",
    "GITLAB_PROJECT": "GITLAB_PROJECTS",
    "GOOGLE_GROUP": "GOOGLE_GROUPS",
    "HTPASSWD_USER_GROUP": "HTPASSWD_USER_GROUPS",
    "KEYCLOAK_GROUP": "KEYCLOAK_GROUPS",
    "OIDC_AUDIENCE_CLAIM": "OIDC_AUDIENCE_CLAIMS",
    "OIDC_EXTRA_AUDIENCE": "OIDC_EXTRA_AUDIENCES",
    "PROVIDER_CA_FILE": "PROVIDER_CA_FILES",
    "SKIP_AUTH_ROUTE": "SKIP_AUTH_ROUTES",
    "TLS_CIPHER_SUITE": "TLS_CIPHER_SUITES",
    "TRUSTED_IP": "TRUSTED_IPS",
    "WHITELIST_DOMAIN": "WHITELIST_DOMAINS",
}
# Where it listens and forwards to is the chain's; what it reads besides its environment would say it a second time.
_OWNED = (
    "HTTP_ADDRESS",
    "HTTPS_ADDRESS",
    "UPSTREAMS",
    "UPSTREAM",
    "TLS_CERT_FILE",
    "TLS_KEY_FILE",
    "CONFIG",
    "ALPHA_CONFIG",
)
_FILES = ("CLIENT_SECRET_FILE", "COOKIE_SECRET_FILE", "AUTHENTICATED_EMAILS_FILE", "HTPASSWD_FILE", "JWT_KEY_FILE")

# Of one release only: a hop that stays when the code changes cannot have them.
_OF_A_RELEASE = ("APP_HOME", "CC_COMMIT_ID", "COMMIT_ID", "CC_DEPLOYMENT_ID", "VIRTUAL_ENV", "PATH", "UV_PYTHON")


@dataclass
class Inputs:
    """What the settings are made of. `given` are the settings of the application (role variables, without `app_`)."""

    services: Sequence[str]
    env: Mapping[str, str]
    given: Mapping[Any, Any]
    name: str
    root: str
    files: Collection[str]
    texts: Mapping[Any, Any]
    known: bool
    facts: Mapping[Any, Any]
    today: str
    paths: Sequence[str]
    runtime: Mapping[str, str]
    uv_mode: bool
    #: Ports on which the chain itself is called: forwarding there would go round in a circle.
    ports: Sequence[int]


class Reader:
    """Reads the settings of all services of a chain and collects what is wrong with them."""

    def __init__(self, inputs: Inputs) -> None:
        self.given = inputs.given
        self.env = inputs.env
        self.inputs = inputs
        self.findings: list[Finding] = []
        self.secrets = secret_values(inputs.env)

    def read(self) -> dict[str, dict[str, Any]]:
        """The settings by service, each complete: what is wrong has a neutral value."""
        readers = {
            "otoroshi-challenge": self._challenge,
            "varnish": self._varnish,
            "redirectionio": self._redirectionio,
            "oauth2-proxy": self._oauth2,
            "custom": self._custom,
            "block": self._block,
        }
        return {service: readers[service]() for service in self.inputs.services}

    def _error(self, code: str, variable: str, value: object = None, **fields: object) -> None:
        """A finding about a variable; `value` is looked up, and hidden when it may be secret."""
        if value is None:
            value = show(variable, self.env[variable], self.secrets) if variable in self.env else "(not set)"
        self.findings.append(finding(code, variable, value, **fields))

    # -- HAProxy -----------------------------------------------------------------------------------------------------------

    def _block(self) -> dict[str, Any]:
        self._check_haproxy("block")
        return {}

    def _check_haproxy(self, service: str) -> None:
        """Whether the host's HAProxy, or the one that its distribution would bring, can do it."""
        facts = self.inputs.facts
        if "haproxy" not in facts and "distribution" not in facts:
            return
        text = str(facts.get("haproxy") or "")
        found = re.match(r"([0-9]{1,4})\.([0-9]{1,4})", text, re.ASCII)
        known = (int(found.group(1)), int(found.group(2))) if found else None
        where = "this host has"
        if not text:
            system = (str(facts.get("distribution") or ""), str(facts.get("release") or ""))
            known = _HAPROXY_OF.get(system)
            where = f"{system[0].capitalize()} {system[1]} brings"
        least = _HAPROXY[service]
        if known is not None and known < least:
            self._error(
                "haproxy_too_old",
                "CC_REQUEST_FLOW",
                service=service,
                found=f"{where} HAProxy {known[0]}.{known[1]}",
                least=f"{least[0]}.{least[1]}",
            )

    def _challenge(self) -> dict[str, Any]:
        """F9: secrets, newest first, and the paths that pass without a challenge."""
        self._check_haproxy("otoroshi-challenge")
        secret = self.env.get(CHALLENGE_SECRET, "")
        if not secret.strip():
            self._error("challenge_secret_missing", CHALLENGE_SECRET, SECRET if secret else "(not set)")
        else:
            self._check_secret(CHALLENGE_SECRET, secret)
        secrets: list[dict[str, Any]] = [{"key": _base64(secret), "until": None}]
        before = self._previous(secret)
        return {"secrets": secrets + ([before] if before else []), "exclude": self._excluded()}

    def _check_secret(self, variable: str, secret: str) -> None:
        size = len(secret.encode("utf-8", "replace"))
        if size > _LONG_SECRET:
            self._error("challenge_secret_long", variable, SECRET, size=size, most=_LONG_SECRET)
        elif size < _SHORT_SECRET:
            self._error("challenge_secret_short", variable, SECRET, size=size, least=_SHORT_SECRET)
        if secret != secret.strip():
            self._error("challenge_secret_blank", variable, SECRET)

    def _previous(self, secret: str) -> dict[str, Any] | None:
        """The secret before this one, while both are accepted."""
        names = "app_challenge_previous_secret", "app_challenge_previous_until"
        before = self.given.get("challenge_previous_secret")
        until = str(self.given.get("challenge_previous_until") or "").strip()
        example = f"{self.inputs.today[:10]}T23:59:00Z"
        if before is None or before == "":
            if until:
                self._error("challenge_until_alone", names[1], until)
            return None
        if not isinstance(before, str) or not before.strip() or "\0" in before:
            self._error("challenge_previous_invalid", names[0], SECRET)
            return None
        self._check_secret(names[0], before)
        moment = _unix(until)
        if moment is None:
            self._error("challenge_until_invalid", names[1], until or "(not set)", example=example)
            return None
        if before == secret:
            self._error("challenge_previous_same", names[0], SECRET)
            return None
        today = _unix(f"{self.inputs.today[:10]}T00:00:00Z")
        if today is not None and moment < today:
            self._error("challenge_until_past", names[1], until)
        return {"key": _base64(before), "until": moment}

    def _excluded(self) -> list[str]:
        paths = [path.strip() for path in self.env.get(EXCLUDE_PATHS, "").split(",")]
        found = []
        for path in [*(path for path in paths if path), *self.inputs.paths]:
            # What does not stand in a request's path can match none.
            plain = quote(path.split("?", 1)[0], safe="/&=%:@!$'()*+,;~[]-._")
            why = ""
            if not path.startswith("/"):
                why = "it does not begin with /"
            elif re.search(r"[\s\x00-\x1f\x7f#]", path):
                why = "it holds a space, a # or a control character"
            elif len(plain) > _LONG_PATH:
                why = f"it has more than {_LONG_PATH} characters"
            elif "*" in path and path in paths:
                self._error("challenge_path_pattern", EXCLUDE_PATHS, path=path)
            if not why:
                found.append(plain)
            elif path in paths:
                self._error("challenge_path_invalid", EXCLUDE_PATHS, path=path, why=why)
        return list(dict.fromkeys(found))

    # -- Varnish -----------------------------------------------------------------------------------------------------------

    def _varnish(self) -> dict[str, Any]:
        """F8: the storage, and the complete VCL of the source's file."""
        services = self.inputs.services
        path, text = self._vcl()
        if text:
            own = varnish.declarations(text)
            if own:
                shown = ", ".join(f"{item.kind} {item.name} (line {item.line})" for item in own)
                self._error("varnish_backend", VARNISH_FILE, path, shown=shown)
            signed_in = "oauth2-proxy" in services[: services.index("varnish")]
            if signed_in and varnish.ends_in_hash(text):
                self._error("varnish_shares_pages", VARNISH_FILE, path)
        if "otoroshi-challenge" in services[services.index("varnish") :]:
            self._error("varnish_before_challenge", "CC_REQUEST_FLOW", ",".join(services))
        return {
            "storage": self._storage(),
            "vcl": varnish.compose(text, first=services[0] == "varnish"),
            "file": path,
        }

    def _vcl(self) -> tuple[str, str]:
        given = self.env.get(VARNISH_FILE, "").strip() or VARNISH_DEFAULT
        path = relative_path(given)
        if path is None:
            self._error("varnish_file_outside", VARNISH_FILE)
            return "", ""
        prefix = self.inputs.root + "/" if self.inputs.root else ""
        full = prefix + path
        text = self.inputs.texts.get(full)
        if not self.inputs.known:
            return path, ""
        if full not in self.inputs.files:
            self._error("varnish_file_missing", VARNISH_FILE, path=full or "(the project root itself)")
            return path, ""
        if not isinstance(text, str) or len(text.encode("utf-8", "replace")) > _VCL_LIMIT or "\0" in text:
            self._error("varnish_file_unreadable", VARNISH_FILE, path=full, most=_VCL_LIMIT // 1024)
            return path, ""
        return path, text

    def _storage(self) -> str:
        """A size as Varnish reads it; errors for one that it would refuse, or that the host does not have."""
        default = "1G"
        text = self.env.get(VARNISH_STORAGE, "").strip() or default
        size = _bytes(text)
        if size is None or size < _MIB:
            why = "it is less than 1M" if size is not None else "it is no size"
            self._error("varnish_storage", VARNISH_STORAGE, why=why)
            return default
        memory = self.inputs.facts.get("memory_mb")
        if isinstance(memory, int) and not isinstance(memory, bool) and 0 < memory < 10**9:
            code = ""
            if size > memory * _MIB:
                code = "varnish_storage_memory"
            elif size * 2 > memory * _MIB:
                code = "varnish_storage_half"
            if code:
                fits = f"{max(memory // 4, 1)}M"
                self._error(code, VARNISH_STORAGE, text, memory=memory, fits=fits)
        return text

    # -- programs of others ------------------------------------------------------------------------------------------------

    def _program(self, variable: str, name: str, service: str) -> dict[str, Any]:
        """Where a program lies on the host, and what to install there, if anything."""
        given = self.given.get(variable.partition("_")[2])
        nothing: dict[str, Any] = {"program": "", "install": {}}
        if given is None or given in ("", {}):
            self._error("flow_program_missing", variable, "(not set)", service=service, name=name)
            return nothing
        if isinstance(given, str):
            if given.startswith("/") and not re.search(r"[\x00-\x1f\x7f]", given):
                return {"program": given, "install": {}}
            shown = scrub(given, ())
            self._error("flow_program_path", variable, shown, name=name)
            return nothing
        if not isinstance(given, Mapping):
            self._error("flow_program_shape", variable, type(given).__name__, name=name)
            return nothing
        wrong = sorted(str(key) for key in given if key not in ("url", "checksum"))
        location = given.get("url")
        if wrong or not isinstance(location, str) or not location.strip():
            self._error("flow_program_shape", variable, ", ".join(sorted(str(key) for key in given)), name=name)
            return nothing
        if has_credentials(location):
            self._error("flow_program_credentials", f"{variable}.url", scrub(location, ()))
            return nothing
        digits = str(given.get("checksum") or "").strip().lower()
        digits = digits.removeprefix("sha256:")
        if not re.match(r"[0-9a-f]{64}\Z", digits, re.ASCII):
            self._error("flow_program_checksum", f"{variable}.checksum", given.get("checksum") or "(not set)")
            return nothing
        return {
            "program": f"{PROGRAMS}/{name}-{digits[:12]}",
            "install": {"location": location.strip(), "name": name, "checksum": digits},
        }

    def _redirectionio(self) -> dict[str, Any]:
        """F10."""
        key = self.env.get(PROJECT_KEY, "").strip()
        configuration = self.given.get("redirectionio_configuration") or ""
        if not isinstance(configuration, str):
            self._error("redirectionio_configuration", "app_redirectionio_configuration", SECRET)
            configuration = ""
        if not key and not configuration:
            self._error("redirectionio_key_missing", PROJECT_KEY)
        elif _unsafe(key):
            self._error("redirectionio_text", PROJECT_KEY)
        instance = self.env.get("CC_REDIRECTIONIO_INSTANCE_NAME", "").strip() or self.inputs.name
        if _unsafe(instance):
            self._error("redirectionio_text", "CC_REDIRECTIONIO_INSTANCE_NAME")
        generation = self.given.get("redirectionio_generation", 2)
        if str(generation) not in ("2", "3") or isinstance(generation, bool):
            self._error("redirectionio_generation", "app_redirectionio_generation", generation)
            generation = 2
        if configuration and ("@LISTEN_PORT@" not in configuration or "@FORWARD_PORT@" not in configuration):
            self._error("redirectionio_placeholders", "app_redirectionio_configuration", SECRET)
        return {
            **self._program("app_redirectionio_agent", "redirectionio-agent", "redirectionio"),
            "project_key": key,
            "instance_name": instance,
            "forward_port": self._forward_port(),
            "generation": int(generation),
            "configuration": configuration,
        }

    def _forward_port(self) -> int | None:
        text = self.env.get(FORWARD_PORT, "").strip()
        if not text:
            return None
        port = int(text) if re.match(r"[0-9]{1,5}\Z", text, re.ASCII) else 0
        if not 1 <= port <= 65535:
            self._error("redirectionio_port", FORWARD_PORT)
            return None
        own = self.inputs.services.index("redirectionio")
        if port in self.inputs.ports[: own + 1]:
            self._error("redirectionio_circle", FORWARD_PORT, port)
        return port

    # -- oauth2-proxy ------------------------------------------------------------------------------------------------------

    def _get(self, name: str) -> str:
        return self.env.get(OAUTH2 + name, "").strip()

    def _oauth2(self) -> dict[str, Any]:
        """F11: the environment of oauth2-proxy; what it would refuse at its start is refused here."""
        environment = {name: value for name, value in self.env.items() if name.startswith(OAUTH2)}
        for name in _OWNED:
            if OAUTH2 + name in environment:
                environment.pop(OAUTH2 + name)
                self._error("oauth2_owned", OAUTH2 + name)
        for name, plural in _LISTS.items():
            if OAUTH2 + name in environment:
                wins = f"; {OAUTH2}{plural} is set and counts" if self._get(plural) else ""
                self._error("oauth2_singular", OAUTH2 + name, plural=OAUTH2 + plural, wins=wins)
        for name in _FILES:
            path = self._get(name)
            if path and not path.startswith("/"):
                self._error("oauth2_file", OAUTH2 + name)
        provider = self._get("PROVIDER").lower()
        wanted = [("CLIENT_ID", "")]
        if provider != "login.gov":
            wanted.append(("CLIENT_SECRET", "CLIENT_SECRET_FILE"))
        if provider in ("oidc", "keycloak-oidc") and not is_true(self._get("SKIP_OIDC_DISCOVERY")):
            wanted.append(("OIDC_ISSUER_URL", ""))
        for name, other in wanted:
            if not self._get(name) and not (other and self._get(other)):
                instead = f", or {OAUTH2}{other}" if other else ""
                self._error("oauth2_missing", OAUTH2 + name, instead=instead)
        self._check_cookie_secret()
        if not any(item.strip() for item in self._get("EMAIL_DOMAINS").split(",")) and not any(
            self._get(name) for name in ("AUTHENTICATED_EMAILS_FILE", "HTPASSWD_FILE")
        ):
            self._error("oauth2_email_rule", f"{OAUTH2}EMAIL_DOMAINS")
        self._check_health_paths()
        return {**self._program("app_oauth2_proxy", "oauth2-proxy", "oauth2-proxy"), "environment": environment}

    def _check_cookie_secret(self) -> None:
        variable = f"{OAUTH2}COOKIE_SECRET"
        secret = self.env.get(variable, "")
        if not secret:
            if not self._get("COOKIE_SECRET_FILE"):
                self._error("oauth2_cookie_missing", variable)
            return
        size = cookie_secret_size(secret)
        if size not in (16, 24, 32):
            self._error("oauth2_cookie_size", variable, SECRET, size=size)

    def _check_health_paths(self) -> None:
        """A path that answers with a page to sign in does not answer 200."""
        if _trusts_the_host(self._get("TRUSTED_IPS")):
            return
        open_paths = [self._get("PING_PATH") or "/ping", self._get("READY_PATH") or "/ready"]
        patterns = [item.strip() for item in self._get("SKIP_AUTH_REGEX").split(",") if item.strip()]
        patterns += [_route(item) for item in self._get("SKIP_AUTH_ROUTES").split(",") if item.strip()]
        for path in self.inputs.paths:
            plain = path.split("?", 1)[0]
            if plain not in open_paths and not any(_matches(pattern, plain) for pattern in patterns if pattern):
                example = f"GET=^{re.escape(plain)}$"
                self._error("oauth2_health_path", f"{OAUTH2}SKIP_AUTH_ROUTES", path=plain, example=example)

    # -- custom ------------------------------------------------------------------------------------------------------------

    def _custom(self) -> dict[str, Any]:
        """F5: the command, how it starts, and its environment, which is the application's without PORT."""
        text = self.env.get(CUSTOM, "").strip()
        bound = self._of_a_release(text)
        environment = {
            name: value
            for name, value in self.inputs.runtime.items()
            if name != "PORT" and (bound or name not in _OF_A_RELEASE)
        }
        script = commands.start(text, self.inputs.uv_mode).script if text and not commands.problem(text) else ""
        return {"command": text, "script": script, "environment": environment, "renewed": bound}

    def _of_a_release(self, text: str) -> bool:
        """Whether the command runs what a release brings: then every release gets a hop of its own, with its environment.

        A program by its absolute path, without files of the project, is the host's, and stays when the code changes.
        """
        found = commands.scan(text)
        values = [word.value for word in found.words]
        if not values or not values[0].startswith("/") or found.substitution:
            return True
        prefix = self.inputs.root + "/" if self.inputs.root else ""
        for value in values:
            for part in (value, value.rpartition("=")[2]):
                path = relative_path(part) if part and not part.startswith("/") else None
                if path and any(
                    name == prefix + path or name.startswith(f"{prefix}{path}/") for name in self.inputs.files
                ):
                    return True
        return False


def public(settings: Mapping[str, Any], secrets: Collection[str]) -> dict[str, Any]:
    """The settings by service, without anything that may be secret; what role request_flow installs stays as it is."""
    shown: dict[str, Any] = {}
    for service, given in settings.items():
        item = dict(given)
        if "secrets" in item:
            item["secrets"] = [{"until": secret["until"]} for secret in item["secrets"]]
        if "environment" in item:
            item["environment"] = sorted(item["environment"])
        for name in ("project_key", "configuration", "vcl"):
            item.pop(name, None)
        for name in ("command", "script"):
            if name in item:
                item[name] = scrub(item[name], secrets)
        shown[service] = item
    return shown


def literal_port(command: str, ports: Collection[int]) -> str:
    """The part of a command that names one of these ports as the one to listen on, or an empty text."""
    values = [word.value for word in commands.scan(command).words]
    for index, value in enumerate(values):
        found = re.search(r"(?:^|:|(?:^|-)port=|^-p)([0-9]{4,5})\Z", value, re.ASCII)
        if not found or int(found.group(1)) not in ports:
            continue
        if found.group() != value or value.startswith((":", "-", "port=")):
            return value
        option = values[index - 1] if index else ""
        if option == "-p" or re.match(r"-.*port\Z", option):
            return f"{option} {value}"
    return ""


def cookie_secret_size(secret: str) -> int:
    """How many bytes oauth2-proxy takes a cookie secret for: those that URL-safe base64 decodes to where that is a key's size, else
    those of the text itself."""
    body = re.sub(r"[\r\n]", "", secret.rstrip("="))
    if re.match(r"[A-Za-z0-9_-]*\Z", body, re.ASCII) and len(body) % 4 != 1:
        size = len(body) * 3 // 4
        if size in (16, 24, 32):
            return size
    return len(secret.encode("utf-8", "replace"))


def _base64(secret: str) -> str:
    return base64.b64encode(secret.encode("utf-8", "replace")).decode("ascii")


def _unix(text: str) -> int | None:
    """Seconds since 1970 of a date and time with its zone, or None."""
    found = _TIME.match(text)
    if not found:
        return None
    day, clock, zone = found.groups()
    clock = clock if clock.count(":") == 2 else f"{clock}:00"
    zone = "+00:00" if zone == "Z" else (zone if ":" in zone else f"{zone[:3]}:{zone[3:]}")
    try:
        moment = datetime.datetime.fromisoformat(f"{day}T{clock}{zone}")
        seconds = calendar.timegm(moment.utctimetuple())
    except (ValueError, OverflowError):
        return None
    return seconds if seconds > 0 else None


def _bytes(text: str) -> int | None:
    found = _SIZE.match(text)
    if not found:
        return None
    power = " kmgt".index(found.group(2).lower() or " ")
    return int(float(found.group(1)) * 1024**power)


def _unsafe(text: str) -> bool:
    """Whether the agent would read more than text: it replaces ${NAME} in its configuration."""
    return bool(re.search(r"[\x00-\x1f\x7f]|\$\{", text))


def _route(item: str) -> str:
    """The pattern of one entry of SKIP_AUTH_ROUTES (METHOD=PATTERN or PATTERN) as far as it is about GET, else an empty text."""
    item = item.strip()
    negated = re.match(r"([A-Z]+)!=(.*)\Z", item, re.DOTALL)
    if negated:
        return ""
    method, equals, pattern = item.partition("=")
    if not equals:
        return item
    return pattern if method.upper() in ("GET", "") else ""


def _matches(pattern: str, path: str) -> bool:
    """Whether a pattern in Go's syntax is found in a path; one that Python does not know is taken at its author's word."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return re.search(pattern, path) is not None
    except (re.error, RecursionError, OverflowError):
        return True


def _trusts_the_host(text: str) -> bool:
    """Whether requests from the host itself need no login."""
    return any(_holds_the_host(item.strip()) for item in text.split(","))


def _holds_the_host(network: str) -> bool:
    try:
        return ipaddress.ip_address("127.0.0.1") in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


__all__ = ["Inputs", "Reader", "cookie_secret_size", "literal_port", "public"]
