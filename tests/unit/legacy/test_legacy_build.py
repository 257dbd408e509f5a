# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""legacy_build as a whole, on a real uv binary and packages made on the spot. No network."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common import warnings as common_warnings

from ansible_collections.pyfleet.runtime.plugins.module_utils import venvs
from ansible_collections.pyfleet.runtime.plugins.module_utils.environment import to_environment_file
from ansible_collections.pyfleet.runtime.plugins.modules import legacy_build
from ansible_collections.pyfleet.runtime.tests.unit.uv import toys
from ansible_collections.pyfleet.runtime.tests.unit.uv.modules import run_module

UV = shutil.which("uv", path=str(Path(sys.executable).parent) + ":" + os.environ.get("PATH", "")) or ""
PYTHON = "/usr/bin/python3"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not UV, reason="no uv in the development environment or on PATH"),
    pytest.mark.skipif(not Path(PYTHON).exists(), reason="no Python of the machine"),
]
SECRET = "hunter2-correct-horse"
BACKEND = {"requirement": "toyback==1.0", "provides": ["toyback", "toy.back-too"]}
MANAGE = """import sys
with open("tasks", "a") as file:
    file.write(" ".join(sys.argv[1:]) + "\\n")
if "broken" in sys.argv:
    import toya
    sys.exit("no such table: shop")
"""


class Site:
    """An application's folder with releases, and an index, for one test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.links = toys.make_index(folder / "links")
        toys.make_wheel(self.links, "toyback", "1.0", ("toyb",), command="toyback")
        toys.make_wheel(self.links, "toyback", "2.0")
        toys.make_wheel(self.links, "toy_back_too", "3.0")
        toys.make_wheel(self.links, "pip", "26.0")
        toys.make_wheel(self.links, "setuptools", "79.0.1")
        toys.make_wheel(self.links, "setuptools", "84.0.0")
        self.home = folder / "home"
        self.home.mkdir()
        self.venvs = folder / "shop" / "venvs"
        self.variables: dict[str, str] = {
            "HOME": str(self.home),
            "PIP_FIND_LINKS": str(self.links),
            "PIP_NO_INDEX": "1",
            "UV_HTTP_RETRIES": "0",
            "XDG_CONFIG_DIRS": str(folder),
            "UV_PYTHON_DOWNLOADS": "never",
        }
        self.project = self.release("a")

    def release(self, name: str, requirements: str | None = "toya==1.1.0\n") -> Path:
        """Makes a release; it becomes the project of the next builds."""
        self.project = self.folder / "shop" / "releases" / name
        self.project.mkdir(parents=True)
        if requirements is not None:
            self.write("requirements.txt", requirements)
        return self.project

    def write(self, name: str, text: str) -> None:
        """Writes a file of the project."""
        path = self.project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def build(
        self, check: bool = False, diff: bool = False, environment: dict[str, str] | None = None, **arguments: Any
    ) -> dict[str, Any]:
        """Runs the module."""
        file = self.folder / "build.environment"
        file.write_text(to_environment_file({**self.variables, **(environment or {})}), encoding="utf-8")
        arguments.setdefault("project", str(self.project))
        arguments.setdefault("executable", UV)
        arguments.setdefault("python", PYTHON)
        arguments.setdefault("requirements", "requirements.txt")
        arguments.setdefault("venvs", str(self.venvs))
        getattr(
            common_warnings, "_global_warnings", []
        ).clear()  # what modules before this one said in the same process
        return run_module(legacy_build.main, check=check, diff=diff, environment_file=str(file), **arguments)

    def good(self, **arguments: Any) -> dict[str, Any]:
        """Runs the module, which succeeds."""
        result = self.build(**arguments)
        assert not result.get("failed"), result["msg"]
        return result

    def both(self, **arguments: Any) -> dict[str, Any]:
        """Check mode, then the real run: the first writes nothing, and both say the same. Returns the real result."""
        before = self.snapshot()
        predicted = self.build(check=True, diff=True, **arguments)
        assert self.snapshot() == before, "check mode wrote something"
        real = self.build(diff=True, **arguments)
        for key in ("failed", "changed", "cached", "shared", "packages", "diff", "installed", "reason"):
            assert predicted.get(key) == real.get(key), key
        return real

    def snapshot(self) -> dict[str, float]:
        """Every path below the site and when it changed, but for uv's cache and the file of variables."""
        return {
            str(path): path.lstat().st_mtime
            for path in sorted(self.folder.rglob("*"))
            if ".cache" not in path.parts and path.name != "build.environment" and path != self.folder
        }

    def shelf(self) -> list[str]:
        """The shared environments."""
        return sorted(path.name for path in self.venvs.glob("[0-9a-f]*"))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site with one release."""
    return Site(tmp_path)


def warnings(result: dict[str, Any]) -> list[str]:
    """The warnings, in whatever form this ansible-core returns them."""
    return [str(item) for item in result.get("warnings", [])]


# -- what is installed -----------------------------------------------------------------------------------------------------


@pytest.mark.rule("B7", "B9")
def test_b7_requirements_then_backend_in_an_environment_at_its_final_path(site: Site) -> None:
    result = site.both(install=[BACKEND])
    assert result["changed"] is True
    assert result["installed"] == {"toya": "1.1.0", "toyback": "1.0", "toyb": "0.5.0"}
    assert result["diff"]["before"] == ""
    assert result["diff"]["after"] == "toya==1.1.0\ntoyb==0.5.0\ntoyback==1.0\n"
    venv = site.project / ".venv"
    assert not venv.is_symlink()
    script = (venv / "bin" / "toyback").read_text(encoding="utf-8")
    assert script.startswith(f"#!{venv}/bin/python")
    done = subprocess.run([venv / "bin" / "toyback"], capture_output=True, text=True, check=True)
    assert done.stdout == "toyback 1.0\n"
    assert result["commands"][0] == f"{UV} venv --no-project --python {PYTHON} {venv}"
    assert result["commands"][1] == f"{UV} pip install --python {venv}/bin/python --no-index -r requirements.txt"
    assert [step["name"] for step in result["steps"]] == ["virtual environment", "requirements", "backend"]


@pytest.mark.rule("B7")
@pytest.mark.parametrize("line", ["toyback==2.0", "toy-back-too"])
def test_b7_backend_of_the_requirements_wins(site: Site, line: str) -> None:
    site.write("requirements.txt", f"toya\n{line}\n")
    result = site.both(install=[BACKEND])
    assert "toyback==1.0" not in result["diff"]["after"]
    assert "backend" not in [step["name"] for step in result["steps"]]


@pytest.mark.rule("B7")
def test_b7_what_the_requirements_pin_stays_when_the_backend_comes(site: Site) -> None:
    toys.make_wheel(site.links, "toyweb", "1.0", ("toya>=1.1",))
    toys.make_wheel(site.links, "toyweb", "2.0", ("toya>=2",))
    result = site.good(install=[{"requirement": "toyweb", "provides": ["toyweb"]}])
    assert (result["installed"]["toya"], result["installed"]["toyweb"]) == ("1.1.0", "1.0")
    site.release("b")
    failed = site.build(install=[{"requirement": "toyweb==2.0", "provides": ["toyweb"]}])
    assert failed["reason"] == "unsatisfiable"


@pytest.mark.rule("B7")
def test_b7_no_requirements_file_wanted(site: Site) -> None:
    site.release("b", None)
    result = site.both(requirements="", install=[BACKEND])
    assert "toyback" in result["installed"]


@pytest.mark.rule("B7")
def test_b7_pips_variables_reach_uv_and_are_named(site: Site) -> None:
    constraints = site.folder / "constraints.txt"
    constraints.write_text("toya<2\n", encoding="utf-8")
    site.write("requirements.txt", "toya\n")
    result = site.good(
        environment={"PIP_CONSTRAINT": str(constraints), "PIP_TARGET": "/tmp/nowhere", "PIP_PREFER_BINARY": "1"}
    )
    assert result["installed"] == {"toya": "1.1.0"}
    assert {"PIP_FIND_LINKS -> UV_FIND_LINKS", "PIP_NO_INDEX -> --no-index", "PIP_CONSTRAINT -> UV_CONSTRAINT"} <= set(
        result["translated"]
    )
    assert any("PIP_TARGET is left out" in text for text in warnings(result))
    assert any("PIP_PREFER_BINARY has no effect" in text for text in warnings(result))


@pytest.mark.rule("B7")
def test_b7_hashes_are_required_once_one_is_there_as_pip_does(site: Site) -> None:
    import hashlib

    digest = hashlib.sha256((site.links / "toya-1.1.0-py3-none-any.whl").read_bytes()).hexdigest()
    site.write("requirements.txt", f"toya==1.1.0 \\\n    --hash=sha256:{digest}\n")
    result = site.both(install=[BACKEND])
    assert "--require-hashes" in result["commands"][1]
    assert "toyback" in result["installed"]
    assert any("lack toyback==1.0: installed without one" in text for text in warnings(result))
    site.release("b", f"toyb==0.5.0 --hash=sha256:{'0' * 64}\n")
    assert site.build()["reason"] == "hash_mismatch"
    site.write("requirements.txt", f"toyc==3.0 --hash=sha256:{'0' * 64}\n")
    assert site.build()["reason"] == "hashes_incomplete"
    site.release("c", f"toya==1.1.0 --hash=sha256:{digest}\ntoyb\n")
    assert site.build()["reason"] == "hashes_incomplete"


@pytest.mark.rule("B7")
def test_b7_options_that_uv_takes_only_from_its_command_line_come_from_the_file(site: Site) -> None:
    toys.make_wheel(site.links, "toypre", "1.0")
    toys.make_wheel(site.links, "toypre", "2.0b1")
    site.write("requirements.txt", "--pre\ntoypre\n")
    assert site.good()["installed"] == {"toypre": "2.0b1"}


# -- order, hooks, goals and tasks -----------------------------------------------------------------------------------------


@pytest.mark.rule("B6", "B7")
def test_b6_b7_order_and_the_environment_of_every_step(site: Site) -> None:
    note = 'echo "$(basename $0) $(ls -d .venv 2>/dev/null) $STAGE ${VIRTUAL_ENV:-none}" >> order'
    site.write("setup.py", "import os, sys; open('order', 'a').write('setup %s %s\\n' % (sys.argv[1:], sys.prefix))")
    site.write(
        "manage.py", "import os, sys; open('order', 'a').write('manage %s %s\\n' % (sys.argv[1:], os.environ['STAGE']))"
    )
    result = site.good(
        environment={"CC_PRE_BUILD_HOOK": note, "CC_POST_BUILD_HOOK": note, "STAGE": "build"},
        setup_goal="develop --quiet", manage_tasks=[["migrate", "--noinput"], ["compress"]], install=[BACKEND],
    )  # fmt: skip
    venv = site.project / ".venv"
    assert (site.project / "order").read_text(encoding="utf-8").splitlines() == [
        "bash  build none",
        f"setup ['develop', '--quiet'] {venv}",
        "manage ['migrate', '--noinput'] build",
        "manage ['compress'] build",
        f"bash .venv build {venv}",
    ]
    assert result["installed"]["setuptools"] == "79.0.1"  # from 80 on `develop` is a call of pip
    assert result["installed"]["pip"] == "26.0"
    assert [step["name"] for step in result["steps"]][-3:] == [
        "setup.py develop --quiet",
        "manage.py migrate --noinput",
        "manage.py compress",
    ]
    assert result["changed"] is True


@pytest.mark.rule("B6")
def test_b6_post_build_hook_finds_pip_where_the_index_has_it(site: Site) -> None:
    hook = {"CC_POST_BUILD_HOOK": "python -c 'import pip; print(pip.__version__)' || echo none"}
    result = site.good(environment=hook, install=[BACKEND])
    assert result["hooks"][0]["output"] == "26.0"
    assert [step["name"] for step in result["steps"]] == ["virtual environment", "requirements", "backend"]
    for wheel in site.links.glob("pip-*"):
        wheel.unlink()
    site.release("b")
    result = site.good(environment=hook, install=[BACKEND])
    assert result["hooks"][0]["output"].splitlines()[-1] == "none"
    assert any("The index has no pip" in text for text in warnings(result))
    assert "toyback" in result["installed"]
    site.release("c")
    assert "pip" not in site.good()["installed"]


@pytest.mark.rule("B6", "I")
def test_b6_pip_of_a_hook_asks_the_indexes_that_uv_asks(site: Site) -> None:
    index = {"UV_DEFAULT_INDEX": f"https://deployer:{SECRET}@index.invalid/simple"}
    hook = {"CC_POST_BUILD_HOOK": "echo $PIP_INDEX_URL; test $PIP_INDEX_URL = $UV_DEFAULT_INDEX"}
    result = site.good(environment={**index, **hook})
    assert SECRET not in result["raw"]


@pytest.mark.rule("B7")
def test_b7_failing_manage_task_stops_the_build_with_its_last_words(site: Site) -> None:
    site.write("manage.py", MANAGE)
    result = site.build(
        manage_tasks=[["check"], ["broken", "--noinput"], ["never"]], environment={"CC_POST_BUILD_HOOK": "touch posted"}
    )
    assert result["failed"]
    assert result["reason"] == "manage_failed"
    assert result["msg"].splitlines()[0] == "manage.py broken --noinput failed: it ended with exit status 1."
    assert "no such table: shop" in result["msg"]
    assert "CC_PYTHON_MANAGE_TASKS" in result["msg"]
    assert (site.project / "tasks").read_text(encoding="utf-8") == "check\nbroken --noinput\n"
    assert not (site.project / "posted").exists()


@pytest.mark.rule("B7")
def test_b7_failing_setup_goal_stops_the_build(site: Site) -> None:
    site.write("setup.py", "raise SystemExit('error: invalid command ' + repr(__import__('sys').argv[1]))")
    result = site.build(setup_goal="deploy")
    assert result["reason"] == "setup_failed"
    assert "error: invalid command 'deploy'" in result["msg"]
    assert "PYTHON_SETUP_PY_GOAL" in result["msg"]


@pytest.mark.rule("B7")
@pytest.mark.parametrize(
    ("arguments", "variable"),
    [({"setup_goal": "develop"}, "PYTHON_SETUP_PY_GOAL"), ({"manage_tasks": [["migrate"]]}, "CC_PYTHON_MANAGE_TASKS")],
)
def test_b7_goal_without_its_program_ends_before_anything_is_installed(
    site: Site, arguments: dict[str, Any], variable: str
) -> None:
    result = site.both(**arguments)
    assert result["reason"] == "program_missing"
    assert variable in result["msg"]
    assert not (site.project / ".venv").exists()


@pytest.mark.rule("B6")
def test_b6_hook_may_write_the_requirements(site: Site) -> None:
    site.release("b", None)
    hook = {"CC_PRE_BUILD_HOOK": "echo toya==1.0.0 > requirements.txt"}
    predicted = site.build(check=True, environment=hook)
    assert (predicted["changed"], predicted["reason"]) == (True, "requirements_missing")
    assert site.good(environment=hook)["installed"] == {"toya": "1.0.0"}


@pytest.mark.rule("B6")
def test_b6_failing_hook_fails_the_build(site: Site) -> None:
    result = site.build(environment={"CC_PRE_BUILD_HOOK": "echo preparing; exit 7"})
    assert result["reason"] == "hook_failed"
    assert not (site.project / ".venv").exists()
    result = site.build(environment={"CC_PRE_BUILD_HOOK": "no-such-folder/pip install x"})
    assert "No such file" in result["msg"]
    result = site.build(environment={"CC_PRE_BUILD_HOOK": "echo 'bash: pip: command not found'; exit 127"})
    assert "runs before there is an environment" in result["msg"]
    result = site.build(environment={"CC_POST_BUILD_HOOK": "toyback-missing"})
    assert result["msg"].startswith("CC_POST_BUILD_HOOK failed: it ended with exit status 127.")


@pytest.mark.rule("B6")
def test_b6_environment_made_by_the_pre_build_hook_is_kept(site: Site) -> None:
    hook = {
        "CC_PRE_BUILD_HOOK": f"{UV} venv -q --clear --python {PYTHON} .venv && {UV} pip install -q --no-index -f {site.links} toyc"
    }
    result = site.good(environment=hook, install=[BACKEND], shared=True)
    assert result["venv"]["made_by_hook"] is True
    assert result["venv"]["action"] == "keep"
    assert (result["shared"], result["venv"]["shared_reason"]) == (False, "CC_PRE_BUILD_HOOK made .venv itself")
    assert set(result["installed"]) == {"toya", "toyb", "toyc", "toyback"}
    again = site.good(environment=hook, install=[BACKEND], shared=True)
    assert again["venv"]["made_by_hook"] is True
    assert again["packages"] == []


@pytest.mark.rule("B6")
def test_b6_environment_of_the_hook_with_another_python_is_made_anew(site: Site) -> None:
    hook = {
        "CC_PRE_BUILD_HOOK": "mkdir -p .venv/bin && echo 'version_info = 3.6.9' > .venv/pyvenv.cfg && ln -s /bin/true .venv/bin/python"
    }
    result = site.good(environment=hook)
    assert result["venv"]["action"] == "replace"
    assert any("has Python 3.6.9" in text for text in warnings(result))
    assert result["installed"] == {"toya": "1.1.0"}


@pytest.mark.rule("B9")
def test_b9_environment_of_unknown_origin_is_not_used(site: Site) -> None:
    shutil.copytree(site.links, site.project / ".venv")
    result = site.good()
    assert any("unknown origin" in text for text in warnings(result))
    assert not (site.project / ".venv" / "toyb-0.5.0-py3-none-any.whl").exists()


def test_missing_static_folder_is_a_warning(site: Site) -> None:
    result = site.good(static="public")
    assert any("STATIC_FILES_PATH: there is no folder public" in text for text in warnings(result))
    (site.project / "public").mkdir()
    assert warnings(site.good(static="public")) == []


def test_celery_missing_from_the_requirements_aborts(site: Site) -> None:
    celery = {"CC_PYTHON_CELERY_MODULE": "shop.tasks"}
    result = site.build(environment=celery)
    assert result["reason"] == "celery_missing"
    assert "Add celery to requirements.txt" in result["msg"]
    toys.make_wheel(site.links, "celery", "5.6.0")
    site.write("requirements.txt", "celery\n")
    site.good(environment=celery)


# -- shared environments ---------------------------------------------------------------------------------------------------


@pytest.mark.rule("B5", "B9")
def test_b5_same_requirements_and_python_install_nothing_again(site: Site) -> None:
    first = site.good(shared=True, install=[BACKEND])
    assert (first["cached"], first["shared"], first["venv"]["action"]) == (False, True, "create")
    target = Path(first["venv"]["target"])
    assert target.parent == site.venvs
    assert os.readlink(site.project / ".venv") == str(target)
    assert (target / "bin" / "toyback").read_text(encoding="utf-8").startswith(f"#!{target}/bin/python")
    built = site.snapshot()
    site.release("b")
    second = site.both(shared=True, install=[BACKEND])
    assert (second["cached"], second["changed"], second["venv"]["action"]) == (True, True, "link")
    assert second["commands"] == []
    assert second["steps"] == []
    assert second["installed"] == first["installed"]
    assert os.readlink(site.project / ".venv") == str(target)
    changed = {path for path, when in site.snapshot().items() if built.get(path) != when and "releases" not in path}
    assert {Path(path).name for path in changed if Path(path).is_file()} == set(), "the shelf was written to"
    third = site.both(shared=True, install=[BACKEND])
    assert (third["cached"], third["changed"], third["packages"]) == (True, False, [])


@pytest.mark.rule("B5")
def test_b5_what_an_environment_is_made_from_gives_it_another_key(site: Site) -> None:
    site.write("more.txt", "toyb\n")
    site.write("requirements.txt", "toya\n-r more.txt\n")
    keys = [site.good(shared=True)["venv"]["key"]]

    def another(**arguments: Any) -> None:
        keys.append(site.good(shared=True, **arguments)["venv"]["key"])
        assert len(set(keys)) == len(keys), arguments

    site.write("more.txt", "toyb\ntoyc\n")
    another()
    site.write("requirements.txt", "toya==1.0.0\n-r more.txt\n")
    another()
    another(install=[BACKEND])
    another(environment={"PIP_PRE": "1"})
    another(environment={"PIP_INDEX_URL": f"https://user:{SECRET}@index.invalid/simple"})
    toys.make_wheel(site.links, "toye", "1.0")  # the local folder holds something else now
    another()
    # Where packages come from in the cache, or how patient uv is, changes nothing of what is installed.
    same = site.good(shared=True, environment={"UV_HTTP_TIMEOUT": "7"}, link_mode="copy")
    assert (same["venv"]["key"], same["cached"]) == (keys[-1], True)
    assert len(site.shelf()) == len(keys)
    assert not any(SECRET in path for path in site.snapshot())


@pytest.mark.rule("B5")
def test_b5_key_counts_the_requirements_after_the_hook(site: Site) -> None:
    first = site.good(shared=True)
    hook = {"CC_PRE_BUILD_HOOK": "echo toyb >> requirements.txt"}
    second = site.good(shared=True, environment=hook)
    assert second["venv"]["key"] != first["venv"]["key"]
    assert set(second["installed"]) == {"toya", "toyb"}
    assert set(venvs.installed(first["venv"]["target"])) == {"toya"}


@pytest.mark.rule("B9")
def test_b9_unfinished_environment_is_removed_and_built_anew(site: Site) -> None:
    first = site.good(shared=True)
    target = Path(first["venv"]["target"])
    (target / venvs.MARKER).unlink()
    (target / "left-behind").touch()
    site.release("b")
    second = site.both(shared=True)
    assert (second["cached"], second["venv"]["target"]) == (False, str(target))
    assert not (target / "left-behind").exists()


@pytest.mark.rule("B9")
def test_b9_files_of_the_project_that_steer_uv_count_under_the_same_name_in_every_release(site: Site) -> None:
    settings = "[tool.uv]\nno-binary-package = []\n"
    site.write("pyproject.toml", settings)
    first = site.good(shared=True)
    site.release("b")
    site.write("pyproject.toml", settings)
    assert site.both(shared=True)["cached"] is True
    site.release("c")
    site.write("pyproject.toml", settings.replace("[]", '["toyz"]'))
    changed = site.good(shared=True)
    assert (changed["cached"], changed["venv"]["key"] != first["venv"]["key"]) == (False, True)


@pytest.mark.rule("B9")
def test_b9_failed_build_is_never_taken_for_a_finished_one(site: Site) -> None:
    site.write("requirements.txt", "toya\nno-such-package\n")
    assert site.build(shared=True)["reason"] == "package_missing"
    assert not (site.project / ".venv").exists()
    assert site.shelf() == []
    toys.make_wheel(site.links, "no_such_package", "1.0")
    assert site.good(shared=True)["cached"] is False


@pytest.mark.rule("B9")
def test_b9_interpreter_that_is_gone_makes_an_environment_unusable(site: Site) -> None:
    target = Path(site.good(shared=True)["venv"]["target"])
    (target / "bin" / "python").unlink()
    (target / "bin" / "python").symlink_to("/usr/bin/python-of-another-time")
    site.release("b")
    assert site.good(shared=True)["cached"] is False


@pytest.mark.rule("B9")
@pytest.mark.parametrize(
    ("requirements", "arguments", "environment", "word"),
    [
        ("-e ./local\n", {}, {}, "install from the release itself"),
        ("./local\n", {}, {}, "install from the release itself"),
        ("toya\n", {"setup_goal": "develop"}, {}, "works on the release's own files"),
        (
            "toya\n",
            {},
            {"CC_POST_BUILD_HOOK": "true || python3 -m pip --version"},
            "CC_POST_BUILD_HOOK installs packages",
        ),
        ("toya\n", {}, {"CC_RUN_COMMAND": "uv run python -m toya"}, "CC_RUN_COMMAND installs packages"),
        ("toya\n", {}, {"CC_PRE_RUN_HOOK": "./.venv/bin/pip install toyb"}, "CC_PRE_RUN_HOOK installs packages"),
    ],
)
def test_b9_what_is_good_for_one_release_only_is_not_shared(
    site: Site, requirements: str, arguments: dict[str, Any], environment: dict[str, str], word: str
) -> None:
    site.write("requirements.txt", requirements)
    site.write("setup.py", "")
    site.write(
        "local/pyproject.toml",
        "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n[project]\nname = 'local'\nversion = '1'\n",
    )
    wheel = toys.make_wheel(site.folder / "made", "local", "1")
    backend = f"import shutil\ndef build_wheel(folder, *rest):\n    shutil.copy({str(wheel)!r}, folder)\n    return {wheel.name!r}\n"
    site.write("local/backend.py", backend + "build_editable = build_wheel\n")
    result = site.good(shared=True, environment=environment, **arguments)
    assert result["shared"] is False
    assert word in result["venv"]["shared_reason"]
    assert not (site.project / ".venv").is_symlink()
    assert site.shelf() == []


def test_command_with_pip_in_its_name_only_keeps_the_environment_shared(site: Site) -> None:
    environment = {
        "CC_RUN_COMMAND": "python pipeline.py --uv-index",
        "CC_WORKER_COMMAND": "sh -c 'echo run-pip-mirror'",
        "CC_POST_BUILD_HOOK": "echo npm run build",
    }
    assert site.good(shared=True, environment=environment)["shared"] is True


def test_hook_never_installs_into_a_shared_environment(site: Site) -> None:
    target = site.good(shared=True)["venv"]["target"]
    hook = {
        "CC_PRE_BUILD_HOOK": f"test -e .venv || {UV} venv -q --python {PYTHON} .venv; {UV} pip install -q --no-index -f {site.links} toyc"
    }
    result = site.good(shared=True, environment=hook)
    assert result["shared"] is False
    assert set(venvs.installed(target)) == {"toya"}


def test_two_builds_wait_for_each_other(site: Site) -> None:
    site.good(shared=True)
    site.release("b")
    with open(site.venvs / venvs.LOCK, "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = site.build(shared=True, timeout=1)
    assert result["reason"] == "busy"
    assert site.good(shared=True)["cached"] is True


def test_unused_environments_are_removed_and_used_ones_stay(site: Site) -> None:
    first = site.good(shared=True)["venv"]["target"]
    site.release("b", "toyb\n")
    second = site.good(shared=True)["venv"]["target"]
    folder = str(site.folder / "shop")
    assert venvs.unused(folder) == []
    shutil.rmtree(site.folder / "shop" / "releases" / "a")
    assert venvs.unused(folder) == [first]
    assert venvs.remove_unused(folder) == [first]
    assert site.shelf() == [Path(second).name]
    assert len(os.listdir(site.venvs / venvs.LINKS)) == 1
    # A release that is built otherwise lets go of its environment.
    site.good(shared=False)
    assert venvs.remove_unused(folder) == [second]
    assert venvs.remove_unused(str(site.folder / "another")) == []


def test_nothing_is_removed_while_a_build_runs(site: Site) -> None:
    site.good(shared=True)
    shutil.rmtree(site.project)
    with open(site.venvs / venvs.LOCK, "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert venvs.remove_unused(str(site.folder / "shop")) == []
    assert len(site.shelf()) == 1


def test_own_environment_of_the_same_requirements_is_kept_and_of_others_replaced(site: Site) -> None:
    site.good()
    again = site.both()
    assert (again["changed"], again["venv"]["action"], again["packages"]) == (False, "keep", [])
    site.write("requirements.txt", "toyb\n")
    result = site.both()
    assert result["venv"]["action"] == "replace"
    assert [(item["name"], item["action"]) for item in result["packages"]] == [("toya", "remove"), ("toyb", "install")]


# -- failures --------------------------------------------------------------------------------------------------------------


@pytest.mark.rule("B7")
@pytest.mark.parametrize(
    ("requirements", "reason", "word"),
    [
        ("no-such-package==1\n", "package_missing", "no-such-package"),
        ("toya==9.9\n", "unsatisfiable", "toya==9.9"),
        ("toya==1.0.0\ntoya==2.0.0\n", "unsatisfiable", "toya"),
        ("<<<<<<< ours\n", "requirements_unparsable", "requirements.txt:1:1"),
        ("toya==\n", "requirements_unparsable", "toya=="),
        ("-r other.txt\n", "requirements_missing", "other.txt"),
        ("-e git+https://index.invalid/x.git#egg=x\n", "requirements_unsupported", "Git sources cannot be editable"),
    ],
)
def test_b7_unusable_requirements_are_told_apart(site: Site, requirements: str, reason: str, word: str) -> None:
    site.write("requirements.txt", requirements)
    result = site.both()
    assert result["failed"]
    assert result["reason"] == reason, result["msg"]
    assert word in result["words"]
    assert result["rule"]
    assert result["next_step"]
    assert "Next step: " in result["msg"]


@pytest.mark.rule("B7")
def test_b7_missing_requirements_file(site: Site) -> None:
    result = site.both(requirements="requirements/production.txt")
    assert result["reason"] == "requirements_missing"
    assert "CC_PIP_REQUIREMENTS_FILE" in result["msg"]
    (site.folder / "outside.txt").write_text("toya\n", encoding="utf-8")
    result = site.both(requirements="../../../outside.txt")
    assert result["reason"] == "requirements_missing"
    assert "leads out of the project" in result["msg"]


def test_index_that_is_down(site: Site) -> None:
    del site.variables["PIP_NO_INDEX"]
    result = site.build(environment={"PIP_INDEX_URL": f"http://user:{SECRET}@127.0.0.1:9/simple"})
    assert result["reason"] == "index_unreachable"
    assert "http://127.0.0.1:9/simple" in result["msg"]
    assert SECRET not in result["raw"]
    # An address without a user, a password or a token is no secret, and the message is about it.
    result = site.build(environment={"PIP_INDEX_URL": "http://127.0.0.1:9/simple"})
    assert "http://127.0.0.1:9/simple" in result["msg"]
    result = site.build(environment={"PIP_INDEX_URL": f"http://127.0.0.1:9/{SECRET}/simple"})
    assert SECRET not in result["raw"]


def source_package(site: Site, build: str) -> None:
    """A package without a wheel, whose build does what `build` says."""
    import io
    import tarfile

    files = {
        "PKG-INFO": "Metadata-Version: 2.1\nName: toynative\nVersion: 1.0\n",
        "pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n"
        "[project]\nname = 'toynative'\nversion = '1.0'\n",
        "backend.py": f"import subprocess, sys\ndef build_wheel(*rest):\n    {build}\n",
    }
    with tarfile.open(site.links / "toynative-1.0.tar.gz", "w:gz") as archive:
        for name, text in files.items():
            item = tarfile.TarInfo("toynative-1.0/" + name)
            item.size = len(text)
            archive.addfile(item, io.BytesIO(text.encode()))
    site.write("requirements.txt", "toynative\n")


def test_package_that_needs_a_compiler(site: Site) -> None:
    source_package(site, "sys.exit(\"error: command 'x86_64-linux-gnu-gcc' failed: No such file or directory\")")
    result = site.build()
    assert result["reason"] == "compiler_missing", result["msg"]
    assert "x86_64-linux-gnu-gcc" in result["words"]
    assert "host_packages" in result["next_step"]
    source_package(site, "raise KeyError('__version__')")
    assert site.build()["reason"] == "build_failed"
    assert site.build(environment={"PIP_ONLY_BINARY": ":all:"})["reason"] == "no_wheel"


def test_timeout(site: Site) -> None:
    site.write("manage.py", "import time; time.sleep(60)")
    result = site.build(manage_tasks=[["wait"]], timeout=2)
    assert result["reason"] == "timeout"
    assert result["msg"].startswith("manage.py wait failed: it did not end within 2 s.")
    source_package(site, "__import__('time').sleep(60)")
    result = site.build(timeout=2)
    assert result["reason"] == "timeout"
    assert "app_build_timeout" in result["next_step"]


@pytest.mark.rule("C1")
def test_c1_missing_python_is_named_with_the_variable_to_change(site: Site) -> None:
    result = site.build(python="/usr/bin/python3.99")
    assert result["reason"] == "python_not_found"
    assert "CC_PYTHON_VERSION" in result["msg"]
    assert site.build(check=True, python="/usr/bin/python3.99")["reason"] == "python_missing"


def test_check_mode_on_a_host_that_has_nothing_yet(site: Site) -> None:
    missing: list[tuple[dict[str, Any], str]] = [
        ({"project": str(site.folder / "nowhere")}, "project_missing"),
        ({"executable": str(site.folder / "no-uv")}, "uv_missing"),
        ({"run_as": "nobody-of-this-name"}, "user_missing"),
    ]
    for arguments, reason in missing:
        predicted = site.build(check=True, diff=True, **arguments)
        assert not predicted.get("failed"), predicted["msg"]
        assert (predicted["changed"], predicted["reason"]) == (True, reason)
        assert site.build(**arguments)["reason"] == reason


def test_check_mode_with_a_uv_that_reports_no_packages_still_tells_errors(site: Site) -> None:
    older = site.folder / "uv-older"
    refuse = """case "$*" in *--output-format*) echo "error: unexpected argument '--output-format' found" >&2; exit 2;; esac"""
    older.write_text(f'#!/bin/sh\n{refuse}\nexec {UV} "$@"\n', encoding="utf-8")
    older.chmod(0o755)
    predicted = site.build(check=True, diff=True, executable=str(older))
    assert not predicted.get("failed"), predicted["msg"]
    assert (predicted["changed"], predicted["reason"]) == (True, "environment_missing")
    site.write("requirements.txt", "no-such-package\n")
    assert site.build(check=True, executable=str(older))["reason"] == "package_missing"


def test_check_mode_runs_no_hook_and_no_task(site: Site) -> None:
    site.write("manage.py", MANAGE)
    result = site.build(
        check=True, shared=True, manage_tasks=[["migrate"]], environment={"CC_PRE_BUILD_HOOK": "touch hooked"}
    )
    assert not result.get("failed"), result["msg"]
    assert result["changed"] is True
    assert result["hooks"] == [{"name": "CC_PRE_BUILD_HOOK", "ran": False}]
    assert {"name": "manage.py migrate", "ran": False} in result["steps"]
    assert sorted(os.listdir(site.project)) == ["manage.py", "requirements.txt"]
    assert not site.venvs.exists()


@pytest.mark.rule("B8")
def test_b8_i_no_secret_in_the_result_and_the_file_is_gone(site: Site) -> None:
    site.write("manage.py", "import os, sys; print(os.environ['TOKEN']); sys.exit(1)")
    secret = {"TOKEN": SECRET, "PIP_INDEX_URL": f"https://deployer:{SECRET}-index@index.invalid/simple"}
    result = site.build(manage_tasks=[["show", SECRET]], environment=secret, diff=True)
    assert result["reason"] == "manage_failed"
    assert SECRET not in result["raw"]
    assert "********" in result["msg"]
    assert not (site.folder / "build.environment").exists()
    assert not any(
        SECRET in path.read_text(errors="replace")
        for path in site.project.rglob("*")
        if path.is_file() and path.name != "manage.py"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can build as another user")
@pytest.mark.rule("B7")
def test_b7_everything_runs_as_and_belongs_to_the_applications_user() -> None:
    user = "nobody"
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        site = Site(Path(folder))
        site.write(
            "manage.py", "import getpass, os; open('who', 'w').write(getpass.getuser() + ' ' + os.environ['HOME'])"
        )
        for path in (site.home, *site.project.parent.rglob("*")):
            shutil.chown(path, user)
        binary = site.folder / "uv"
        shutil.copy(UV, binary)  # the development environment may lie where the user cannot go
        result = site.good(run_as=user, executable=str(binary), shared=True, manage_tasks=[["who"]])
        assert (site.project / "who").read_text(encoding="utf-8") == f"{user} {site.home}"
        target = Path(result["venv"]["target"])
        assert {path.owner() for path in (target, target / "pyvenv.cfg", target / venvs.MARKER)} == {user}
        assert {path.owner() for path in (site.venvs, site.venvs / venvs.SALT, site.venvs / venvs.LINKS)} == {"root"}
        assert (site.venvs / venvs.SALT).stat().st_mode & 0o777 == 0o600


def test_module_runs_as_a_process_of_its_own(site: Site) -> None:
    """As Ansible starts it, but for the packing: a new process, arguments on stdin."""
    import json

    file = site.folder / "build.environment"
    file.write_text(to_environment_file(site.variables), encoding="utf-8")
    arguments = {
        "project": str(site.project), "executable": UV, "python": PYTHON, "requirements": "requirements.txt",
        "environment_file": str(file),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", "from ansible.module_utils import basic; basic._ANSIBLE_PROFILE = 'legacy'\n"
         "from ansible_collections.pyfleet.runtime.plugins.modules import legacy_build; legacy_build.main()"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}), capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": ":".join(path for path in sys.path if path)},
    )  # fmt: skip
    assert json.loads(done.stdout)["changed"] is True, done.stderr


# -- accelerators ----------------------------------------------------------------------------------------------------------


@pytest.mark.rule("H3")
def test_h3_the_backend_of_the_pip_interface_decides_on_the_index_and_on_the_environment(site: Site) -> None:
    site.write("requirements.txt", "torch\n")
    site.variables.pop("PIP_NO_INDEX")
    away = {"ALL_PROXY": "http://127.0.0.1:9"}
    said = {name: site.build(environment={**away, "UV_TORCH_BACKEND": name})["msg"] for name in ("cpu", "cu128")}
    assert "/whl/cpu/torch/" in said["cpu"]
    assert "/whl/cu128/torch/" in said["cu128"]
    driver = {"UV_TORCH_BACKEND": "auto", "UV_CUDA_DRIVER_VERSION": "580.65.06"}
    assert "/whl/cu13" in site.build(environment={**away, **driver})["msg"]

    site.write("requirements.txt", "toya==1.1.0\n")
    site.variables["PIP_NO_INDEX"] = "1"
    shelves = []
    for number, backend in enumerate(("cpu", "cpu", "cu128")):
        site.release(f"h{number}")
        assert site.good(shared=True, environment={"UV_TORCH_BACKEND": backend})["shared"]
        shelves.append(len(site.shelf()))
    assert shelves == [1, 1, 2], "another accelerator, another environment"
