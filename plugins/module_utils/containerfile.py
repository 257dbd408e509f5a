# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container image out of the plan of a deployment (contract H5): Containerfile, scripts and environments. Pure, no I/O.

The application lies in the image where it lies on a host, below ROOT/NAME, with `current` in the place of the link of that name. What
the build sees of the application's environment comes in as a secret mount; the image itself holds constants only.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.pyfleet.runtime.plugins.module_utils import accelerator, environment, health, run, uv
from ansible_collections.pyfleet.runtime.plugins.module_utils.findings import SECRET, Finding, finding
from ansible_collections.pyfleet.runtime.plugins.module_utils.indexes import NETRC_TEXT

ENGINES = ("podman", "docker")
PYTHONS = ("auto", "base", "managed")
#: Where scripts lie in the image, and what the build leaves out of it.
PROGRAMS = "/usr/local/lib/pyfleet"
CACHE = "/var/cache/pyfleet-uv"
PYTHON_DIR = "/opt/pyfleet/python"
OUT = "/var/tmp/pyfleet-source"
#: What the project itself adds to the environment of its dependencies.
OWN = "/var/tmp/pyfleet-own"
#: Secrets of the build, by the ids of their mounts.
BUILD_ENV, CA_BUNDLE = "pyfleet-env", "pyfleet-ca"
#: What a step says before it fails, for the module to tell the cause.
FAILED = "pyfleet-failed:"
#: Different in every container of an image: whoever runs it sets them.
OF_INSTANCE = ("INSTANCE_ID", "INSTANCE_NUMBER", "CC_PRETTY_INSTANCE_NAME")
#: Warnings of the plan about hosts, which an image does not have.
ABOUT_HOSTS = frozenset({"in_place_gap", "in_place_gap_port", "python_none_uv", "env_path_prefixed"})
#: Flags of uv sync with which dependencies and project cannot be told apart, and those that the dependencies' own step replaces.
_CHANGES_LOCK = re.compile(r"(-U|-P.*|--upgrade|--upgrade-package(=.*)?|--upgrade-group(=.*)?)\Z", re.DOTALL)
_ONLY_DEPENDENCIES = ("--frozen", "--no-install-project", "--no-install-workspace", "--no-install-local")
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._+@=~-]+\Z")
#: Variables that decide, besides lock and flags, what uv installs; none of them is a secret.
_DECIDES = (
    "UV_PYTHON",
    "UV_PYTHON_PREFERENCE",
    "UV_DEV",
    "UV_NO_DEV",
    "UV_NO_DEFAULT_GROUPS",
    "UV_NO_GROUP",
    "UV_NO_SOURCES",
    "UV_NO_BINARY",
    "UV_NO_BINARY_PACKAGE",
    "UV_NO_BUILD",
    "UV_NO_BUILD_PACKAGE",
)
_PLATFORM = frozenset({"--platform", "--arch", "--os", "--variant"})
_USER = re.compile(r"[0-9]{1,9}(:[0-9]{1,9})?\Z")
_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*\Z")
_REPOSITORY = re.compile(r"[a-z0-9][a-z0-9._-]*(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*\Z")


@dataclass(frozen=True)
class Settings:
    """The variables `image_*`. `base` is what the application runs on, `build_base` (default the same) what it is built on."""

    base: str
    build_base: str = ""
    repository: str = ""
    user: str = "10001:10001"
    python: str = "auto"
    source: bool = True
    public_variables: tuple[str, ...] = ()

    @property
    def builder(self) -> str:
        """The image of the build stage."""
        return self.build_base or self.base


@dataclass(frozen=True)
class Image:
    """What is built. `scripts` lie in `PROGRAMS`, `environment` is in the image, `build_env` and `env_file` hold secrets.

    `env_file` is what a container needs besides, for `--env-file`, which has no way to write values with several lines: these are
    `several_lines`. `health` are the arguments of the health check's program, None for a task.
    """

    text: str
    scripts: Mapping[str, str]
    environment: Mapping[str, str]
    build_env: str
    env_file: str
    several_lines: tuple[str, ...]
    port: int
    health: Mapping[str, Any] | None
    needs_uv: bool
    layered: bool
    findings: tuple[Finding, ...]


def check(settings: Settings) -> list[Finding]:
    """What is wrong with the variables `image_*` themselves."""
    found = []
    if not settings.base:
        found.append(finding("image_base_missing", "image_base", "(not set)"))
    for variable, value in (("image_base", settings.base), ("image_build_base", settings.build_base)):
        if value and not _REFERENCE.match(value):
            found.append(_invalid(variable, value, "the name of an image", "localhost/python:trixie"))
    if settings.repository and not _REPOSITORY.match(settings.repository):
        expected = "the name of an image in small letters, without a tag"
        found.append(_invalid("image_repository", settings.repository, expected, "localhost/shop"))
    if not _USER.match(settings.user) or int(settings.user.split(":")[0]) == 0:
        found.append(_invalid("image_user", settings.user, "UID or UID:GID in numbers, not root's", "10001:10001"))
    if settings.python not in PYTHONS:
        found.append(_invalid("image_python", settings.python, " or ".join(PYTHONS), "auto"))
    return found


def check_place(wanted: Mapping[str, Any], *, local: bool) -> list[Finding]:
    """What is wrong with `image_*` for the machine that builds; `local`: the one on which Ansible runs."""
    path = str(wanted.get("env_file") or "")
    found = [finding("image_place", "image_env_file", path)] if path and not posixpath.isabs(path) and not local else []
    return found + [
        finding("image_platform", "image_build_arguments", str(argument))
        for argument in wanted.get("build_arguments") or []
        if str(argument).partition("=")[0] in _PLATFORM
    ]


def _invalid(variable: str, value: str, expected: str, example: str) -> Finding:
    return finding("option_invalid", variable, value, expected=expected, example=example)


def make_image(
    plan: Mapping[str, Any],
    settings: Settings,
    *,
    root: str,
    release: str,
    accept_2xx: bool = False,
    is_package: bool = True,
    certificates: bool = False,
) -> Image:
    """The image of the application that `plan` describes; every finding at once, errors included.

    `root` is the folder of the application on hosts (ROOT/NAME), `is_package` whether uv installs the project itself,
    `certificates` whether a bundle comes as the secret `CA_BUNDLE`.
    """
    found = check(settings)
    if plan["mode"] != "uv":
        found.append(finding("image_legacy", "CC_PYTHON_UV_RUN_COMMAND", "; ".join(plan["reasons"])))
    if plan["chain"]["active"] or plan["chain"]["block"]:
        services = ", ".join(hop["service"] for hop in plan["chain"]["hops"])
        found.append(finding("image_without_chain", "CC_REQUEST_FLOW", services))
    for name, way in ((NETRC_TEXT, "a netrc"), ("UV_KEYRING_PROVIDER", "a keyring")):
        if plan["build"]["environment"].get(name, "disabled") != "disabled":
            found.append(finding("image_credentials", "app_netrc" if name == NETRC_TEXT else "app_indexes", way))
    if plan["build"]["accelerator"]["reason"] == accelerator.UNDECIDED:
        found.append(finding("image_accelerator", accelerator.ACCELERATOR, accelerator.AUTO))
    if not settings.source and not is_package:
        found.append(finding("image_no_package", "image_source", "false"))

    home = posixpath.join(root, "current")
    project = posixpath.join(home, plan["project_root"]) if plan["project_root"] else home
    found += [finding("image_path", "APP_FOLDER", project)] if not _PLAIN_PATH.match(project) else []
    before = posixpath.join(root, "releases", release)
    runtime = {key: _moved(key, value, before, home) for key, value in plan["environment"].items()}
    port = _port(plan)
    if not plan["run"]["task"]:
        runtime["PORT"] = str(port)
    public = _public(runtime, settings.public_variables)
    unknown = sorted(set(settings.public_variables) - set(runtime))
    found += [finding("image_public_unknown", "image_public_variables", key) for key in unknown]
    lines = sorted(key for key, value in public.items() if re.search(r"[\r\n]", value))
    found += [finding("image_public_lines", "image_public_variables", key) for key in lines]
    scripts = _scripts(plan, project)
    checked = None if plan["run"]["task"] else _health(plan, accept_2xx)
    needs_uv = any(re.search(r"(?<![\w.-])uvx?(?![\w.-])", text) for text in _commands(plan))
    layered = not plan["build"]["pre_hook"] and not any(map(_CHANGES_LOCK.match, plan["build"]["argv"]))
    if not layered and plan["build"]["pre_hook"]:
        found.append(finding("image_not_layered", "CC_PRE_BUILD_HOOK", SECRET))
    writer = _Writer(plan, settings, root, home, project, release, certificates)
    text = writer.text(public, port, layered=layered, needs_uv=needs_uv, has_health=checked is not None)
    given = [*_commands(plan)[:-1], shlex.join(plan["build"]["argv"])]
    found += _leaks({**plan["build"]["environment"], **plan["environment"]}, settings, given)
    build_env = {key: _moved(key, value, before, home) for key, value in plan["build"]["environment"].items()}
    # The home of the running application stays empty: what a hook leaves in it may be a secret.
    if build_env.get("HOME") == posixpath.join(root, "home"):
        build_env["HOME"] = "/root"
    outside = {key: value for key, value in runtime.items() if key not in public and key not in OF_INSTANCE}
    several = tuple(sorted(key for key, value in outside.items() if re.search(r"[\r\n]", value)))
    return Image(
        text=text,
        scripts=scripts,
        environment=public,
        build_env="".join(f"export {key}={shlex.quote(build_env[key])}\n" for key in sorted(build_env)),
        env_file="".join(f"{key}={outside[key]}\n" for key in sorted(outside) if key not in several),
        several_lines=several,
        port=port,
        health=checked,
        needs_uv=needs_uv,
        layered=layered,
        findings=tuple(found),
    )


def _moved(key: str, value: str, before: str, after: str) -> str:
    """The values that name the release's folder on a host; nothing else is touched, whatever it holds."""
    return value.replace(before, after, 1) if key in ("APP_HOME", "PATH", "VIRTUAL_ENV") else value


def _port(plan: Mapping[str, Any]) -> int:
    """D2: the port that the command or the environment has fixed, else the public one: there is no chain in front."""
    return run.parse_port(plan["environment"].get("PORT")) or int(plan["ports"]["public"])


def _public(runtime: Mapping[str, str], named: Iterable[str]) -> dict[str, str]:
    """What stands in the image: the platform's constants, and what the user calls public."""
    constants = (environment.PLATFORM - set(OF_INSTANCE)) | {
        *("HOME", "PATH", "PORT", "PYTHONUNBUFFERED", "VIRTUAL_ENV"),
        *("UV_NO_SYNC", "UV_NO_DEV", "UV_PYTHON_DOWNLOADS"),
    }
    wanted = constants | set(named)
    return {key: value for key, value in sorted(runtime.items()) if key in wanted}


def _commands(plan: Mapping[str, Any]) -> list[str]:
    return [plan["run"]["script"], *(worker["script"] for worker in plan["workers"]), plan["hooks"]["pre_run"] or ""]


def _scripts(plan: Mapping[str, Any], project: str) -> dict[str, str]:
    """What a container can run: the application, its workers, and the hook before it. No hook's text is in them (B8)."""
    own = f"export INSTANCE_NUMBER=${{INSTANCE_NUMBER:-0}} INSTANCE_ID=${{INSTANCE_ID:-$HOSTNAME}}\ncd {shlex.quote(project)} || exit 1\n"
    scripts = {"run": f"#!/bin/bash\n# Starts {plan['run']['variable']}.\n{own}{plan['run']['script']}\n"}
    for worker in plan["workers"]:
        scripts[f"worker-{worker['index']}"] = f"#!/bin/bash\n# Starts {worker['variable']}.\n{own}{worker['script']}\n"
    if plan["hooks"]["pre_run"]:
        scripts["pre-run"] = (
            f'#!/bin/bash\n{own}eval "${{CC_PRE_RUN_HOOK:?comes with the environment of the application}}"\n'
        )
    return scripts


def _health(plan: Mapping[str, Any], accept_2xx: bool) -> dict[str, Any]:
    """E1, E2: the application's own paths, also where a blocking service would be asked on a host (F6)."""
    paths, _found = health.read_paths(plan["environment"])
    return {"paths": paths or ["/"], "accept": health.accept_rule(paths, accept_2xx)}


def _leaks(env: Mapping[str, str], settings: Settings, texts: Sequence[str]) -> list[Finding]:
    """Section I: variables whose secret value stands in what everybody who has the image can read."""
    found = []
    for key in sorted(env):
        values = [] if key in settings.public_variables else environment.secret_values({key: env[key]})
        if any(value in text and environment.scrub(text, [value]) != text for value in values for text in texts):
            found.append(finding("image_secret", key, SECRET))
    if any(environment.has_credentials(text) for text in texts):
        found.append(finding("image_url_secret", "app_env", SECRET))
    return found


class _Writer:
    """Writes the Containerfile, stage by stage."""

    def __init__(
        self,
        plan: Mapping[str, Any],
        settings: Settings,
        root: str,
        home: str,
        project: str,
        release: str,
        certificates: bool,
    ) -> None:
        self.plan = plan
        self.settings = settings
        self.root = root
        self.home = home
        self.project = project
        self.release = release
        self.certificates = certificates

    def text(self, public: Mapping[str, str], port: int, *, layered: bool, needs_uv: bool, has_health: bool) -> str:
        """The whole file."""
        lines = [f"# The image of release {self.release}, made from its plan by the playbook image.yml.", ""]
        # A hook may have changed anything in the environment; then it is taken as it is.
        apart = layered and not self.plan["build"]["post_hook"]
        lines += [
            *self._dependencies(layered),
            "",
            *self._build(apart),
            "",
            *self._final(public, port, needs_uv, apart),
        ]
        if has_health:
            deadline = max(1, round(self.plan["health"]["deadline"]))
            program = [f"{self.project}/.venv/bin/python", "-I", f"{PROGRAMS}/health.pyz"]
            lines.append(
                f"HEALTHCHECK --interval=30s --timeout=30s --start-period={deadline}s --retries=3 CMD {_exec(program)}"
            )
        else:
            lines.append("HEALTHCHECK NONE")
        lines += ["ENTRYPOINT []", f"CMD {_exec([f'{PROGRAMS}/run'])}"]
        return "\n".join(lines) + "\n"

    def _dependencies(self, layered: bool) -> list[str]:
        """uv, its settings, and the dependencies alone: a layer that stays as long as lock and project files do."""
        steer = {"auto": [], "base": ["UV_PYTHON_DOWNLOADS=never", "UV_PYTHON_PREFERENCE=only-system"]}
        steer["managed"] = ["UV_PYTHON_PREFERENCE=only-managed"]
        settings = [f"UV_CACHE_DIR={CACHE}", f"UV_PYTHON_INSTALL_DIR={PYTHON_DIR}", "UV_COMPILE_BYTECODE=1"]
        # The cache is a mount of its own: there is nothing to link to.
        settings += ["UV_LINK_MODE=copy", *steer.get(self.settings.python, [])]
        lines = [
            f"FROM {self.settings.builder} AS dependencies",
            "USER 0",  # whatever the image's own is
            "COPY uv /usr/local/bin/uv",
            "COPY uv.toml /etc/uv/uv.toml",
            "ENV " + " ".join(settings),
            f"WORKDIR {self.project}",
        ]
        if layered:
            argv = [flag for flag in self.plan["build"]["argv"] if flag not in ("--locked", *_ONLY_DEPENDENCIES)]
            # Copied, because podman 4 takes a step from its cache whatever has changed in a file that is mounted.
            # What they say comes with the mount, in which no engine sees that it has changed.
            given = self.plan["build"]["environment"]
            decided = shlex.join(f"{name}={given[name]}" for name in _DECIDES if name in given)
            steps = [*([f": {decided}"] if decided else []), self._uv([*argv, *_ONLY_DEPENDENCIES])]
            lines += [f"COPY dependencies/ {self.home}/", self._run(steps)]
        return lines

    def _build(self, apart: bool) -> list[str]:
        """The application itself, with its hooks (B6), and what of it goes into the image."""
        argv = list(self.plan["build"]["argv"])
        if not self.settings.source and "--no-editable" not in argv:
            argv.append("--no-editable")
        # The id makes the step another one for every release, the environment included, which no engine looks at.
        steps = [f": release {self.release}", *self._hook("pre_hook", "CC_PRE_BUILD_HOOK")]
        steps += [f"mkdir -p {OWN}/.venv; touch {OWN}/begun"] if apart else []
        steps += [self._uv(argv), *self._hook("post_hook", "CC_POST_BUILD_HOOK")]
        # By the time of the inode: uv leaves files with the times of their wheels.
        steps += [f"find .venv ! -type d -cnewer {OWN}/begun -exec cp -a --parents {{}} {OWN}/ ';'"] if apart else []
        venv = posixpath.join(".", self.plan["project_root"], ".venv")
        steps += [
            "{ .venv/bin/python -m compileall -q -x /[.]venv/ . >/dev/null || true; }",
            f"mkdir -p {PYTHON_DIR} {shlex.quote(self.root)}/home {OUT}",
            f"tar -C {shlex.quote(self.home)} --exclude={shlex.quote(venv)} -cf - . | tar -C {OUT} -xf -",
        ]
        return ["FROM dependencies AS build", f"ADD source.tar.gz {self.home}/", self._run(steps)]

    def _hook(self, key: str, name: str) -> list[str]:
        if not self.plan["build"][key]:
            return []
        return [f"bash -c 'eval \"${name}\"' || {{ echo {FAILED} {name} >&2; exit 1; }}"]

    def _uv(self, argv: Sequence[str]) -> str:
        return shlex.join(["uv", *argv])

    def _run(self, steps: Sequence[str]) -> str:
        """One step of the build: the environment and certificates are mounts, and gone when it ends."""
        mounts = [f"--mount=type=cache,id=pyfleet-uv,target={CACHE}", f"--mount=type=secret,id={BUILD_ENV}"]
        first = ["set -e", f". /run/secrets/{BUILD_ENV}"]
        if self.certificates:
            mounts += [f"--mount=type=secret,id={CA_BUNDLE}", "--mount=type=tmpfs,target=/run/pyfleet"]
            bundle = "/run/pyfleet/ca.pem"
            first += [
                f"cat /etc/ssl/certs/ca-certificates.crt /run/secrets/{CA_BUNDLE} > {bundle} 2>/dev/null || true",
                f"export SSL_CERT_FILE={bundle} UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1",
            ]
        return "RUN " + " ".join(mounts) + " \\\n    " + "; \\\n    ".join([*first, *steps])

    def _final(self, public: Mapping[str, str], port: int, needs_uv: bool, apart: bool) -> list[str]:
        """What runs: neither build tools nor cache, and uv only where a command calls it."""
        own = f"--chown={self.settings.user}"
        venv = f"{self.project}/.venv"
        labels = {
            "org.opencontainers.image.title": public["CC_APP_NAME"],
            "org.opencontainers.image.version": self.release,
            "org.opencontainers.image.revision": public["CC_COMMIT_ID"],
            "org.opencontainers.image.base.name": self.settings.base,
        }
        # What changes rarely comes first; the environment belongs to root, and cannot be written to, as on a host.
        lines = [
            f"FROM {self.settings.base}",
            "USER 0",
            f"COPY --from=build {PYTHON_DIR}/ {PYTHON_DIR}/",
            *(["COPY uv /usr/local/bin/uv"] if needs_uv else []),
            f"COPY --from=build {own} {self.root}/home/ {self.root}/home/",
            f"COPY --from={'dependencies' if apart else 'build'} {venv}/ {venv}/",
            f"COPY scripts/ {PROGRAMS}/",
            *([f"COPY --from=build {OWN}/.venv/ {venv}/"] if apart else []),
        ]
        lines += [f"COPY --from=build {own} {OUT}/ {self.home}/"] if self.settings.source else []
        # Engines differ in whom a folder belongs to that they make on the way.
        folders = " ".join(shlex.quote(path) for path in dict.fromkeys((self.home, self.project)))
        hand_over = f"chown {self.settings.user} {folders}; " if self.settings.source else ""
        lines += [
            f"RUN {hand_over}[ -x /bin/bash ] || {{ echo {FAILED} bash >&2; exit 1; }}; "
            f"{shlex.quote(venv)}/bin/python -c '' || {{ echo {FAILED} python >&2; exit 1; }}",
            _pairs("ENV", public),
            _pairs("LABEL", labels),
            f"WORKDIR {self.project}",
            f"USER {self.settings.user}",
            *([] if self.plan["run"]["task"] else [f"EXPOSE {port}"]),
            "STOPSIGNAL SIGTERM",
        ]
        return lines


def _pairs(instruction: str, values: Mapping[str, str]) -> str:
    """One instruction for all of them: each is a step that is committed."""
    return f"{instruction} " + " \\\n    ".join(f"{key}={_quoted(value)}" for key, value in values.items())


def _quoted(value: str) -> str:
    """A value of ENV or LABEL, in which nothing is replaced."""
    return '"' + re.sub(r'([\\"$])', r"\\\1", value) + '"'


def _exec(argv: Sequence[str]) -> str:
    """An instruction's exec form."""
    return "[" + ", ".join(_quoted(part) for part in argv) + "]"


def read_failure(output: str) -> tuple[str, str]:
    """Why a build failed: what a step said of itself (see `FAILED`), or an empty text, and the words that tell a person more.

    `output` is what the engine printed, in which it repeats each step, and the one that failed once more in the end.
    """
    told = re.findall(rf"^(?:[#0-9. ]+ )?{FAILED} (\S+)", output, re.MULTILINE)
    own = re.compile(
        r"(\[\d+/\d+\] )?STEP \d+|-->|COMMIT |Error: building at STEP|Error: error building|time=\"|" + FAILED
    )
    rows = [row for row in output.splitlines() if row.strip() and not own.match(row)]
    text = "\n".join(rows)
    words = uv.error_words(text) if re.search(r"^\s*error:", text, re.MULTILINE) else "\n".join(rows[-20:])
    return (told[-1] if told else ""), words


__all__ = [
    "ABOUT_HOSTS",
    "BUILD_ENV",
    "CA_BUNDLE",
    "ENGINES",
    "FAILED",
    "Image",
    "Settings",
    "check",
    "make_image",
    "read_failure",
]
