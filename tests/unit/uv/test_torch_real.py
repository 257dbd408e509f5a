# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""H3 with a real uv: the layouts of docs/pytorch.md against two indexes in folders, and uv's own choice for a driver beside ours.

A package of a few lines stands in for PyTorch (tests/stand_ins/torch.py).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.pyfleet.runtime.plugins.module_utils import accelerator
from ansible_collections.pyfleet.runtime.plugins.module_utils.plan import make_plan
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.pyproject import extras_of
from ansible_collections.pyfleet.runtime.tests.stand_ins.torch import VERSION, make_indexes
from ansible_collections.pyfleet.runtime.tests.tools.prepare_app import ROOT
from ansible_collections.pyfleet.runtime.tests.unit.plan.support import INPUTS

UV = shutil.which("uv", path=str(Path(sys.executable).parent) + ":" + os.environ.get("PATH", "")) or ""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.rule("H3"),
    pytest.mark.skipif(not UV, reason="no uv in the development environment or on PATH"),
]
PAGE = (ROOT / "docs" / "pytorch.md").read_text(encoding="utf-8")
FIXTURE = (ROOT / "tests/fixtures/apps/inference/pyproject.toml").read_text(encoding="utf-8")


def blocks(start: str) -> list[str]:
    """The TOML blocks of the page that begin so."""
    return [
        text for text in re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL) if text.startswith(start)
    ]


class Project:
    """A project with no index but the two."""

    def __init__(self, folder: Path, text: str) -> None:
        self.folder = folder / "project"
        self.folder.mkdir()
        make_indexes(folder / "indexes", "cpu", "cu128")
        # What the page adds from an ordinary index has no part here.
        text = text.replace("https://torch.example", (folder / "indexes").as_uri()).replace(
            '["fastapi", "uvicorn"]', "[]"
        )
        self.text = text
        (self.folder / "pyproject.toml").write_text(text)
        self.environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder),
            "XDG_CONFIG_DIRS": str(folder),
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_PYTHON": sys.executable,
        }
        self.uv("lock", "--quiet")

    def uv(self, *argv: str) -> str:
        """Runs uv in the project."""
        done = subprocess.run([UV, *argv], cwd=self.folder, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def built(self, **settings: object) -> str:
        """Builds as the plan says, and returns the build that is there then."""
        source = {**INPUTS["source"], "project": extras_of(self.text)}
        plan = make_plan({**INPUTS, "source": source, "app": {**INPUTS["app"], **settings}})
        assert not plan["errors"]
        self.uv(*plan["build"]["argv"], "--quiet")
        return self.uv("run", "--no-sync", "python", "-c", "import torch; print(torch.__version__)").strip()


def test_the_fixture_is_the_project_of_the_page() -> None:
    assert blocks("[project]\n") == [FIXTURE.partition("\n")[2]]


def test_one_lock_holds_both_builds_and_the_variable_picks(tmp_path: Path) -> None:
    project = Project(tmp_path, FIXTURE)
    assert project.built(accelerator="cpu") == f"{VERSION}+cpu"
    assert project.built(accelerator="CU128") == f"{VERSION}+cu128"
    assert project.built(accelerator="auto") == f"{VERSION}+cpu", "a host without a GPU"
    assert project.built(extras=["cu128"]) == f"{VERSION}+cu128"


def test_by_platform_and_with_one_index_for_all(tmp_path: Path) -> None:
    indexes = FIXTURE[FIXTURE.index("[[tool.uv.index]]") :]
    head = FIXTURE[: FIXTURE.index("[tool.uv.sources]")].replace('["fastapi", "uvicorn"]', '["torch"]')
    head = re.sub(
        r"^\[project\.optional-dependencies\]\n.*?(?=^\[)|^conflicts = .*?\n", "", head, flags=re.MULTILINE | re.DOTALL
    )
    one, by_platform = blocks("[tool.uv.sources]\n")
    expected = "cu128" if sys.platform == "linux" else "cpu"
    for number, (sources, build) in enumerate(((one, "cpu"), (by_platform, expected))):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert Project(folder, f"{head}{sources}\n{indexes}").built() == f"{VERSION}+{build}"


def picked_by_uv(driver: str, folder: Path) -> str:
    """The index that uv asks for this driver, with UV_TORCH_BACKEND=auto; nothing is reached."""
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
        "UV_TORCH_BACKEND": "auto",
        "UV_CUDA_DRIVER_VERSION": driver,
        "UV_HTTP_RETRIES": "0",
        "ALL_PROXY": "http://127.0.0.1:9",
    }
    command = [UV, "pip", "install", "--dry-run", "--no-cache", "--target", str(folder / "none"), "torch"]
    command += ["--python", sys.executable]
    words = subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stderr
    match = re.search(r"/whl/(\w+)/torch/", words)
    assert match, words
    return match[1]


@pytest.mark.parametrize(
    "driver", ["450.80.02", "470.256.02", "525.60.13", "550.54.14", "575.51.03", "580.65.06", "595.45.04"]
)
def test_uv_takes_the_driver_for_the_same_major_version_of_cuda(driver: str, tmp_path: Path) -> None:
    ours = accelerator.newest_cuda(driver)
    assert ours
    theirs = picked_by_uv(driver, tmp_path)
    assert re.match(rf"cu{ours[0]}\d\Z", theirs), f"{ours} and {theirs}"
    assert accelerator.pick([theirs, "cpu"], [{"vendor": "nvidia", "driver": driver, "ready": True}])[0] == theirs
