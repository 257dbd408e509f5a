#!/usr/bin/python
# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: uv_bundle
short_description: Pack a project and what its uv.lock says into an archive for AWS Lambda
version_added: "0.1.0"
author:
  - pyfleet contributors (@pyfleet)
description:
  - Makes the zip archive of a Lambda function or of a Lambda layer from a project with a C(uv.lock), for x86-64 or ARM, whatever the
    machine is that it runs on.
  - Packages are the ones of the lock file, members of the workspace included, as wheels for the platform of the function. C(uv export)
    and C(uv pip install) choose and install them.
  - The same project gives the same bytes every time and in every directory. The archive is replaced in one step, and only when its bytes
    change.
  - Nothing is written into the project.
  - Uploading is left to the tools of AWS.
requirements:
  - uv 0.9.19 or newer on the host.
attributes:
  check_mode:
    support: full
    description:
      - Makes the archive in a temporary directory and compares it with O(dest); nothing else is written and no Python is downloaded.
      - Where the project, its Python or uv are not there yet, a change without details is predicted.
  diff_mode:
    support: full
    description: The packages with their sizes and the files of the code, before and after.
  platform:
    support: full
    platforms: posix
    description: Linux hosts.
options:
  project:
    description: Directory of the project, which holds C(pyproject.toml). It may be a member of a workspace.
    type: path
    required: true
  dest:
    description: The archive to write, in a directory that exists.
    type: path
    required: true
  kind:
    description:
      - V(function) holds packages and code.
      - V(layer) holds the packages alone, below C(python/). Members of the workspace that the project depends on are packages.
      - V(code) holds the code alone, for a function whose packages come from a layer.
    type: str
    choices: [function, layer, code]
    default: function
  python_version:
    description: Python of the Lambda runtime, for example V("3.13"), in quotes.
    type: str
    required: true
  architecture:
    description: Architecture of the function, in Lambda's words.
    type: str
    choices: [x86_64, arm64]
    default: x86_64
  manylinux:
    description:
      - The C library that wheels may need, V(2014) (which all runtimes have) or V(2_) and its minor version. Together with
        O(architecture) it becomes uv's C(--python-platform).
      - Packages that have wheels for newer systems only need for example V(2_28). Lambda's runtimes have 2.34 from Python 3.12 on, and
        2.26 before.
    type: str
    default: "2014"
  package:
    description: Name of the member of the workspace to pack, when it is not the one in O(project).
    type: str
  extras:
    description: Extras of the project to include.
    type: list
    elements: str
    default: []
  groups:
    description: Dependency groups to include besides the default ones. The C(dev) group is left out.
    type: list
    elements: str
    default: []
  without:
    description:
      - Packages to leave out, together with what only they need. For what the runtime has already, for example V(boto3).
    type: list
    elements: str
    default: []
  source_packages:
    description:
      - Packages that may be built from source on this machine, because they have no wheels. What they build has to be pure Python, or made
        for the platform of the function; uv refuses it otherwise.
    type: list
    elements: str
    default: []
  code_dir:
    description: Directory of the code within the project. What it holds is at the top of the archive.
    type: str
    default: .
  include:
    description:
      - The code, as patterns relative to O(code_dir). A directory comes with all below it. V(*) and V(?) stay within one name, V(**) stands
        for any number of directories. Names that begin with a dot are meant only by patterns that do so, too.
      - By default everything, unless the project is a package (it has a C([build-system])). Then its wheel is the code, and nothing else.
      - Other members of the workspace, virtual environments, C(__pycache__) and O(dest) are never part of the code.
    type: list
    elements: str
  exclude:
    description: What to leave out of O(include), as patterns.
    type: list
    elements: str
    default: [pyproject.toml, uv.lock, uv.toml, "*.zip", build, dist, tests, "**/*.egg-info", "**/node_modules"]
  max_unzipped_size:
    description:
      - Bytes that the files may have in total; more is a failure that names the biggest packages. A unit may follow, as in V(200M).
      - The default is Lambda's limit for a function and its layers together. With layers, set what they leave over.
    type: bytes
    default: "262144000"
  max_zipped_size:
    description: Bytes that the archive may have. Without it, a warning tells when it is too large to be uploaded without S3 (50 MB).
    type: bytes
  frozen:
    description:
      - Take C(uv.lock) as it is, without comparing it with C(pyproject.toml).
      - The comparison needs a Python that the project admits. Nothing else does.
    type: bool
    default: false
  python:
    description:
      - Python that uv works with, as a version or the path of an interpreter. By default uv's own rules choose.
      - It has no influence on the archive unless O(source_packages) are built.
    type: str
  python_install_dir:
    description: Where Pythons managed by uv lie. Used when the directory exists.
    type: path
    default: /opt/pyfleet/python
  index_credentials:
    description:
      - Credentials by index name, each with C(username) and C(password). They reach uv as C(UV_INDEX_<NAME>_USERNAME) and
        C(UV_INDEX_<NAME>_PASSWORD), never as an argument.
    type: dict
    default: {}
  executable:
    description: The uv to use. Default C(/usr/local/bin/uv), then the first one on C(PATH).
    type: str
  cache_dir:
    description: uv's cache.
    type: path
  system_certs:
    description: Whether to trust the certificates of the host. By default uv's configuration decides.
    type: bool
  environment:
    description: Further variables for uv. Values count as secret.
    type: dict
    default: {}
  timeout:
    description: Seconds each command may take.
    type: int
    default: 1800
extends_documentation_fragment:
  - ansible.builtin.files
notes:
  - The directory for temporary files needs room for the unpacked packages and the archive.
  - The bytes are the same on every machine whose Python has the same zlib. RV(sha256) is that of the archive.
seealso:
  - module: pyfleet.runtime.uv_sync
"""

EXAMPLES = r"""
- name: One archive with packages and code
  pyfleet.runtime.uv_bundle:
    project: "{{ playbook_dir }}/shop"
    dest: /tmp/package.zip
    python_version: "3.13"
    include: [app]

- name: The packages as a layer for ARM, without what the runtime has
  pyfleet.runtime.uv_bundle:
    project: "{{ playbook_dir }}/shop"
    dest: /tmp/layer.zip
    kind: layer
    python_version: "3.13"
    architecture: arm64
    without: [boto3]

- name: The code for a function that uses the layer
  pyfleet.runtime.uv_bundle:
    project: "{{ playbook_dir }}/shop"
    dest: /tmp/code.zip
    kind: code
    python_version: "3.13"
    include: [app]
    exclude: ["**/*.md"]

- name: A member of a workspace, with a package from an index that asks for credentials
  pyfleet.runtime.uv_bundle:
    project: "{{ playbook_dir }}/shop"
    package: orders
    dest: /tmp/orders.zip
    python_version: "3.13"
    index_credentials:
      internal:
        username: deploy
        password: "{{ vault_index_password }}"
"""

RETURN = r"""
dest:
  description: The archive.
  returned: always
  type: str
packages:
  description: The packages in the archive, by name.
  returned: success
  type: list
  elements: dict
  contains:
    name: {description: The package., type: str, returned: always}
    version: {description: Its version., type: str, returned: always}
    size: {description: 'Bytes of its files, unpacked.', type: int, returned: always}
  sample: [{name: fastapi, version: 0.119.1, size: 1303182}]
code:
  description: The files of the code, by name.
  returned: success
  type: list
  elements: str
  sample: [app/__init__.py, app/main.py]
unzipped_size:
  description: Bytes of all files.
  returned: success
  type: int
zipped_size:
  description: Bytes of the archive.
  returned: success
  type: int
sha256:
  description: Checksum of the archive, in hexadecimal digits.
  returned: success
  type: str
code_sha256:
  description: The same as Lambda shows it, in Base64. It tells whether a function runs this archive.
  returned: success
  type: str
python_platform:
  description: What uv was asked for.
  returned: success
  type: str
  sample: x86_64-manylinux2014
commands:
  description: The exact commands, without secrets.
  returned: always
  type: list
  elements: str
dropped:
  description: Variables of the module's surroundings that would steer uv and were left out.
  returned: always
  type: list
  elements: str
uv_version:
  description: Version of uv.
  returned: when uv was found
  type: str
reason:
  description: Why it failed (or why check mode could not say more), as a word for programs.
  returned: on failure
  type: str
  sample: lambda_no_wheel
"""

import base64
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pyfleet.runtime.plugins.module_utils import bundle, process, uv
from ansible_collections.pyfleet.runtime.plugins.module_utils.environment import scrub
from ansible_collections.pyfleet.runtime.plugins.module_utils.findings import Finding, finding, render_findings
from ansible_collections.pyfleet.runtime.plugins.module_utils.hidden import keep_hidden
from ansible_collections.pyfleet.runtime.plugins.module_utils.uv_runner import Runner

ARGUMENTS: dict[str, dict[str, Any]] = {
    "project": {"type": "path", "required": True},
    "dest": {"type": "path", "required": True},
    "kind": {"type": "str", "choices": [bundle.FUNCTION, bundle.LAYER, bundle.CODE], "default": bundle.FUNCTION},
    "python_version": {"type": "str", "required": True},
    "architecture": {"type": "str", "choices": list(bundle.ARCHITECTURES), "default": "x86_64"},
    "manylinux": {"type": "str", "default": "2014"},
    "package": {"type": "str"},
    "extras": {"type": "list", "elements": "str", "default": []},
    "groups": {"type": "list", "elements": "str", "default": []},
    "without": {"type": "list", "elements": "str", "default": []},
    "source_packages": {"type": "list", "elements": "str", "default": []},
    "code_dir": {"type": "str", "default": "."},
    "include": {"type": "list", "elements": "str"},
    "exclude": {"type": "list", "elements": "str", "default": list(bundle.EXCLUDED)},
    "max_unzipped_size": {"type": "bytes", "default": str(bundle.UNZIPPED_LIMIT)},
    "max_zipped_size": {"type": "bytes"},
    "frozen": {"type": "bool", "default": False},
    "python": {"type": "str"},
    "python_install_dir": {"type": "path", "default": "/opt/pyfleet/python"},
    "index_credentials": {"type": "dict", "default": {}, "no_log": True},
    "executable": {"type": "str"},
    "cache_dir": {"type": "path"},
    "system_certs": {"type": "bool"},
    "environment": {"type": "dict", "default": {}, "no_log": True},
    "timeout": {"type": "int", "default": 1800},
}
RULE = "H6: an archive is made from uv.lock by uv, for the platform of the function"


class RefusalError(Exception):
    """Things that a person has to put right, all of those found at once."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = list(findings)
        super().__init__(render_findings(self.findings))


def in_uvs_words(made: Finding, words: str, done: process.Completed | None = None, **facts: str) -> uv.UvError:
    """A finding together with what a tool said about it."""
    rows = [("Command", done.command), ("Status", str(done.returncode))] if done else []
    return uv.UvError(
        made.code,
        made.message,
        words=words,
        rule=made.rule,
        next_step=made.next_step,
        facts=[*([("Value", made.value)] if made.value else []), *facts.items(), *rows],
    )


class Archive:
    """One run of the module."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.options: dict[str, Any] = dict(module.params)
        self.trouble: uv.UvError | None = None
        credentials: dict[str, str] = {}
        try:
            credentials = uv.credential_variables(self.options["index_credentials"] or {})
        except uv.UvError as error:
            self.trouble = error
        # Backends that write dates into what they build take this one; git does not write into the project's repository.
        variables = {"SOURCE_DATE_EPOCH": "315532800", "GIT_OPTIONAL_LOCKS": "0"}
        if Path(self.options["python_install_dir"]).is_dir():
            variables["UV_PYTHON_INSTALL_DIR"] = self.options["python_install_dir"]
        self.runner = Runner(module, variables, credentials)
        keep_hidden(module, ("index_credentials",), self.runner.secrets)
        self.result = self.runner.result
        self.result.update(dest=self.options["dest"])
        # uv runs elsewhere: relative to where the module does.
        self.project = Path.cwd() / self.options["project"]
        self.dest = Path.cwd() / self.options["dest"]
        self.kind: str = self.options["kind"]
        self.python: str = self.options["python_version"]
        self.platform = bundle.platform(self.options["architecture"], self.options["manylinux"])
        self.downloads_allowed = self.runner.environment.get("UV_PYTHON_DOWNLOADS", "") != "never"
        self.scratch = Path(tempfile.mkdtemp(prefix="uv-bundle-"))
        self.site = self.scratch / "site"
        # Set once uv has found the lock file: its folder, what it knows as folders, the one of the project that is packed, and whether
        # that project is a package.
        self.root = self.home = self.project
        self.folders: dict[bundle.Source, Path] = {}
        self.is_package = False
        self.pylock = ""

    def close(self) -> None:
        """Removes what is not needed any more."""
        self.runner.close()
        shutil.rmtree(str(self.scratch), ignore_errors=True)

    # -- ends -------------------------------------------------------------------------------------------------------------

    def refuse(self, refusal: RefusalError) -> NoReturn:
        """Ends the module with all that is wrong."""
        first = refusal.findings[0]
        self.result.update(reason=first.code, rule=first.rule, next_step=first.next_step)
        self.module.fail_json(msg=scrub(str(refusal), self.runner.secrets), **self.result)
        raise SystemExit(1)  # fail_json never returns; this tells the type checker

    def predict(self, reason: str, why: str) -> NoReturn:
        """Ends check mode where what the archive needs is made by a step that check mode did not carry out."""
        self.result.update(changed=True, reason=reason, msg=f"check mode can say more once {why}")
        self.module.exit_json(**self.result)
        raise SystemExit(0)

    def warn(self, made: Finding) -> None:
        """Says something that a person may want to change."""
        self.module.warn(scrub(f"{made.message} {made.next_step}", self.runner.secrets))

    # -- uv ---------------------------------------------------------------------------------------------------------------

    def uv(self, *argv: str) -> process.Completed:
        """Runs uv where the project's configuration holds: its indexes, and which credentials belong to which."""
        return self.runner.run("--directory", str(self.project), *argv)

    def export(self, *argv: str) -> process.Completed:
        """Runs `uv export` for what the options select."""
        command = ["export", "--frozen" if self.options["frozen"] else "--locked", "--no-dev", "--no-editable"]
        command += ["--package", self.options["package"]] if self.options["package"] else []
        for option, values in (("--extra", "extras"), ("--group", "groups"), ("--prune", "without")):
            for value in self.options[values]:
                command += [option, value]
        command += ["--python", self.options["python"]] if self.options["python"] else []
        done = self.uv(*command, "--no-header", *argv)
        if not done.ok:
            self.failed(done)
        return done

    def install(self, *argv: str, cached: bool = True) -> None:
        """Runs `uv pip install` for the platform of the function."""
        command = [*([] if cached else ["--no-cache"]), "pip", "install", "--target", str(self.site)]
        command += ["--python-platform", self.platform, "--python-version", self.python]
        command += ["--python", self.options["python"]] if self.options["python"] else []
        command += ["--no-deps", "--no-installer-metadata", "--no-compile-bytecode", *argv]
        done = self.uv(*command)
        if not done.ok:
            self.failed(done)

    def failed(self, done: process.Completed, building: str = "") -> NoReturn:
        """Ends with a uv that failed: its own words, and what they mean for an archive."""
        # What a build says stands before uv's own words.
        words = process.tail(done.stderr, 60) if building else uv.error_words(done.stderr) or process.tail(done.stdout)
        if done.timed_out:
            raise uv.UvError(
                "timeout",
                "uv did not finish within {} s and was ended.".format(self.options["timeout"]),
                words=words,
                rule="every command ends within `timeout`",
                next_step="Look at the last lines above; raise `timeout` if they show progress.",
                facts=[("Command", done.command)],
            )
        flat = " ".join(done.stderr.split())
        where = {"python": self.python, "platform": self.platform}
        missing = re.search(r"Package `([^`]+)` can't be installed because", flat)
        if missing:
            wheels = bundle.exported_wheels(self.pylock, missing.group(1))
            newer = bundle.newer_manylinux(wheels, self.options["architecture"], self.python)
            made = (
                finding("lambda_newer_manylinux", "", missing.group(1), manylinux=newer, **where)
                if newer
                else finding("lambda_no_wheel", "", missing.group(1), **where)
            )
            listed = bundle.offered(wheels, self.options["architecture"])
            raise in_uvs_words(made, words, done, Wheels=listed)
        foreign = re.search(r"The built wheel `([^`]+)` is not compatible", flat) or re.search(
            r"\b(\S+) has no wheels with a matching", flat
        )
        if foreign:
            raise in_uvs_words(finding("lambda_foreign_wheel", "", foreign.group(1), **where), words, done)
        verdict = uv.classify_failure(done.stderr)
        if self.runner.check and verdict.reason == "python_not_found" and self.downloads_allowed:
            self.predict("python_missing", "the Python that the project asks for is on this host")
        meaning = {
            "lock_stale": finding("lambda_lock_stale"),
            "lock_missing": finding("lambda_lock_missing"),
            "python_not_found": finding("lambda_lock_python"),
            "python_incompatible": finding("lambda_lock_python"),
            "build_failed": finding("lambda_build_failed", "", building or "see below"),
            "sync_failed": finding("lambda_uv_failed"),
            "flags_invalid": finding("lambda_uv_failed"),
            "unsatisfiable": finding("lambda_uv_failed"),
        }.get(verdict.reason)
        if building and verdict.reason in ("sync_failed", "python_not_found", "python_incompatible", "unsatisfiable"):
            meaning = finding("lambda_build_failed", "", building)
        if meaning:
            raise in_uvs_words(meaning, words, done)
        raise uv.UvError(
            verdict.reason,
            verdict.what,
            words=words,
            rule=RULE,
            next_step=verdict.next_step.replace(", then deploy again", "").replace(" and deploy again", ""),
            facts=[("Command", done.command), ("Status", str(done.returncode))],
        )

    # -- parts ------------------------------------------------------------------------------------------------------------

    def check_options(self) -> None:
        """Refuses what cannot be right before anything runs."""
        patterns = {"include": self.options["include"] or [], "exclude": self.options["exclude"]}
        found = bundle.check_options(self.python, self.options["manylinux"], self.options["code_dir"], patterns)
        if self.dest.is_dir():
            found.append(finding("lambda_dest_is_folder", "dest", str(self.dest)))
        elif not self.dest.parent.is_dir() and not self.runner.check:
            found.append(finding("lambda_dest_folder", "dest", str(self.dest), folder=str(self.dest.parent)))
        if not (self.project / "pyproject.toml").is_file():
            if self.runner.check and not self.project.is_dir():
                self.predict("lambda_project", f"the project directory {self.project} is there")
            found.append(finding("lambda_project", "project", str(self.project)))
        if found:
            raise RefusalError(found)

    def locate(self) -> None:
        """Finds the lock file that uv used, and in it the project that is packed."""
        here = self.project.resolve()
        root = next((folder for folder in (here, *here.parents) if (folder / "uv.lock").is_file()), here)
        lock = (root / "uv.lock").read_text(encoding="utf-8")
        requires = bundle.required_python(lock)
        if not bundle.runs_on(self.python, requires):
            raise RefusalError([finding("lambda_python_outside", "python_version", self.python, requires=requires)])
        self.folders = {source: (root / source.path).resolve() for source in bundle.sources(lock)}
        named = uv.normal_name(self.options["package"] or "")
        wanted = [
            source
            for source, folder in self.folders.items()
            if (uv.normal_name(source.name) == named if named else folder == here)
        ]
        if not wanted:
            members = ", ".join(sorted(source.name for source in self.folders)) or "none"
            variable, value = ("package", named) if named else ("project", str(self.project))
            raise RefusalError([finding("lambda_no_member", variable, value, members=members)])
        self.root = root
        self.home = self.folders[wanted[0]]
        self.is_package = wanted[0].kind != "virtual"
        names = set(re.findall(r'^name = "([^"]+)"', lock, re.MULTILINE))
        for option in ("without", "source_packages"):
            for name in self.options[option]:
                if uv.normal_name(name) not in names:
                    self.warn(finding("lambda_not_in_lock", option, name))

    def add_remote_packages(self) -> None:
        """Installs what comes from an index, from an address or from a repository.

        A pylock.toml says where each package comes from and which file it is. A requirements.txt does not: a package that is locked to
        an index of its own would be looked for in the others.
        """
        path = self.scratch / "pylock.toml"
        self.export("--no-emit-local", "--format", "pylock.toml", "--output-file", str(path))
        self.locate()
        self.pylock = bundle.for_another_python(path.read_text(encoding="utf-8"))
        path.write_text(self.pylock, encoding="utf-8")
        names = bundle.exported_names(self.pylock)
        if not names:
            return
        from_source = {uv.normal_name(name) for name in self.options["source_packages"]}
        wheels_only = [name for name in names if uv.normal_name(name) not in from_source] if from_source else [":all:"]
        flags = [part for name in wheels_only for part in ("--only-binary", name)]
        self.install(*flags, "--preview-features", "pylock", "--requirements", str(path))

    def add_local_packages(self) -> None:
        """Builds and installs what lies on this machine: the project, members of its workspace, paths."""
        done = self.export("--only-emit-local", "--format", "requirements.txt", "--no-annotate", "--no-hashes")
        if self.kind == bundle.CODE:
            self.locate()
        requirements = []
        tree = self.scratch / "tree"
        copied: list[Path] = []
        for number, (where, marker) in enumerate(bundle.local_requirements(done.stdout)):
            path = (self.root / where).resolve()
            # A layer is what the project needs, the code is the project itself, and a function is both.
            if self.kind == (bundle.LAYER if path == self.home else bundle.CODE):
                continue
            wheel = path
            if path.suffix != ".whl":
                if path.is_dir():
                    top = self.root if bundle.within(path, self.root) else path
                    if top not in copied:
                        bundle.copy_for_build(top, tree, {self.dest.resolve()})
                        copied.append(top)
                    path = tree / str(path).lstrip("/")
                wheel = self.build(path, self.scratch / "wheels" / str(number), where)
            name = wheel.name.partition("-")[0]
            requirements.append(f"{name} @ {wheel.as_uri()}" + (f" ; {marker}" if marker else ""))
        if requirements:
            listed = self.scratch / "local.txt"
            listed.write_text("".join(line + "\n" for line in requirements), encoding="utf-8")
            # Their wheels are new each time: uv's cache would keep every one of them.
            self.install("--only-binary", ":all:", "--no-index", "--requirements", str(listed), cached=False)

    def build(self, source: Path, folder: Path, name: str) -> Path:
        """Builds one wheel and returns it."""
        python = ["--python", self.options["python"]] if self.options["python"] else []
        done = self.uv("build", "--wheel", "--out-dir", str(folder), *python, str(source))
        wheels = sorted(folder.glob("*.whl")) if done.ok else []
        if len(wheels) != 1:
            self.failed(done, name)
        return wheels[0]

    def code(self) -> list[bundle.Item]:
        """Returns the files of the code."""
        include = self.options["include"]
        if include is None:
            include = [] if self.is_package else ["**"]
        given = self.options["code_dir"]
        folder = self.home / given
        if not folder.is_dir():
            raise RefusalError([finding("lambda_code_dir", "code_dir", given, what="names no folder of the project")])
        if not bundle.within(folder.resolve(), self.root):
            raise RefusalError([finding("lambda_code_dir", "code_dir", given, what="leads out of the project")])
        choice = bundle.Choice(include, self.options["exclude"])
        others = {path for path in self.folders.values() if path not in (self.home, folder.resolve())}
        # A member above this one is not a neighbour to leave out.
        without = {self.dest.resolve(), *(path for path in others if not bundle.within(self.home, path))}
        items, found = bundle.code_items(folder, choice, self.root, without)
        if self.options["include"]:
            found += [finding("lambda_pattern_unused", "include", text, folder=str(folder)) for text in choice.unused]
        if found:
            raise RefusalError(found)
        return items

    def content(self) -> list[bundle.Item]:
        """Returns everything that goes into the archive."""
        self.site.mkdir()
        if self.kind != bundle.CODE:
            self.add_remote_packages()
        self.add_local_packages()
        items = bundle.site_items(self.site, bundle.LAYER_FOLDER if self.kind == bundle.LAYER else "")
        if self.kind != bundle.LAYER:
            items += self.code()
        items, found = bundle.merge(items)
        if not items:
            found.append(finding("lambda_empty"))
        if found:
            raise RefusalError(found)
        return items

    def measure(self, items: Sequence[bundle.Item]) -> list[str]:
        """Fills the result with what the archive holds and refuses what is too large. Returns the biggest parts."""
        packages, code = bundle.describe_items(items)
        sizes = {item.name: item.size for item in items}
        total = sum(sizes.values())
        self.result.update(
            packages=[package.to_dict() for package in packages],
            code=code,
            unzipped_size=total,
            python_platform=self.platform,
        )
        biggest = bundle.biggest(packages, sum(sizes[name] for name in code))
        limit = self.options["max_unzipped_size"]
        if total > limit:
            made = finding("lambda_size", "max_unzipped_size", limit, size=exact(total), limit=exact(limit))
            raise in_uvs_words(made, "\n".join(biggest))
        return biggest

    def pack(self, items: Sequence[bundle.Item], biggest: Sequence[str]) -> Path:
        """Writes the archive into the temporary directory."""
        path = self.scratch / "archive.zip"
        with path.open("wb") as stream:
            bundle.write(stream, items)
        size = path.stat().st_size
        self.result["zipped_size"] = size
        limit = self.options["max_zipped_size"]
        if limit is not None and size > limit:
            made = finding("lambda_zip_size", "max_zipped_size", limit, size=exact(size), limit=exact(limit))
            raise in_uvs_words(made, "\n".join(["unpacked:", *biggest]))
        if limit is None and size > bundle.DIRECT_UPLOAD_LIMIT:
            self.warn(finding("lambda_direct_upload", size=bundle.megabytes(size)))
        return path

    def execute(self) -> None:
        """The whole run."""
        if self.trouble is not None:
            raise self.trouble
        self.check_options()
        try:
            self.runner.find()
        except uv.UvError as error:
            if self.runner.check and error.reason == "uv_missing":
                self.predict(error.reason, "uv is on this host")
            raise
        if self.runner.check:
            self.runner.environment["UV_PYTHON_DOWNLOADS"] = "never"
        items = self.content()
        path = self.pack(items, self.measure(items))
        digest = bundle.sha256(path) or ""
        self.result.update(sha256=digest, code_sha256=base64.b64encode(bytes.fromhex(digest)).decode())
        before = bundle.read_archive(self.dest) if self.module._diff else None
        changed = bundle.sha256(self.dest) != digest
        if self.module._diff:
            header = str(self.dest)
            self.result["diff"] = {
                "before": before or "",
                "after": bundle.read_archive(path) or "",
                "before_header": header,
                "after_header": header,
            }
        if changed and not self.runner.check:
            self.module.atomic_move(str(path), str(self.dest), unsafe_writes=bool(self.options.get("unsafe_writes")))
        if self.dest.exists():
            facts = self.module.load_file_common_arguments(self.module.params, path=str(self.dest))
            changed = self.module.set_fs_attributes_if_different(facts, changed)
        self.result.update(changed=changed, msg=self.summary(changed))

    def summary(self, changed: bool) -> str:
        """The result in one line."""
        words = "{}: {} packages, {} files of code, {} unpacked, {} packed".format(
            self.dest.name,
            len(self.result["packages"]),
            len(self.result["code"]),
            bundle.megabytes(self.result["unzipped_size"]),
            bundle.megabytes(self.result["zipped_size"]),
        )
        if not changed:
            return words + "; nothing to do"
        return ("would be: " if self.runner.check else "") + words


def exact(size: int) -> str:
    """A size for people, and the bytes for who has to compare."""
    return f"{bundle.megabytes(size)} ({size} bytes)"


def main() -> None:
    """Entry point."""
    module = AnsibleModule(argument_spec=dict(ARGUMENTS), supports_check_mode=True, add_file_common_args=True)
    archive = Archive(module)
    try:
        archive.execute()
    except RefusalError as refusal:
        archive.refuse(refusal)
    except uv.UvError as error:
        archive.runner.fail(error)
    except OSError as error:
        detail = error.strerror or str(error)
        name = str(error.filename or "")
        made = finding(
            "lambda_file", "", process.current_account().name, detail=f"{name}: {detail}" if name else detail
        )
        archive.refuse(RefusalError([made]))
    finally:
        archive.close()
    module.exit_json(**archive.result)


if __name__ == "__main__":
    main()
