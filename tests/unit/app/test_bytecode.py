# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a new release takes over of the code that the serving one compiled."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ansible_collections.pyfleet.runtime.plugins.module_utils.bytecode import carry
from ansible_collections.pyfleet.runtime.plugins.module_utils.process import current_account
from ansible_collections.pyfleet.runtime.plugins.module_utils.releases import Description, Layout

OLD, NEW = "a" * 12, "b" * 12


def described(release: str, project_root: str, mode: str = "uv") -> Description:
    return Description(release, "shop", mode, "", "app-shop", 8080, [18080], "side_by_side", project_root)


class Host:
    """Two releases; the first serves and has compiled code."""

    def __init__(self, folder: Path, project_root: str = "web") -> None:
        self.layout = Layout("shop", str(folder / "srv"), str(folder / "etc"), str(folder / "run"))
        self.cache = folder / "var"
        self.new = described(NEW, project_root)
        for release in (OLD, NEW):
            project = Path(self.layout.release(release), project_root)
            project.mkdir(parents=True)
            (project / "uv.lock").write_text("same\n")
            settings = Path(self.layout.release_settings(release))
            settings.mkdir(parents=True)
            (settings / "release.json").write_text(json.dumps(vars(described(release, project_root))))
        self.layout.set_link("current", OLD)
        self.package = self.compiled(OLD, f"{self.layout.release(OLD)}/{project_root}/.venv/lib/fastapi/x.pyc")
        self.compiled(OLD, f"{self.layout.release(OLD)}/{project_root}/app/main.pyc")
        self.compiled(OLD, "/usr/lib/python3.11/os.pyc")

    def compiled(self, release: str, path: str) -> Path:
        place = Path(f"{self.cache}/app-shop/{release}{path}")
        place.parent.mkdir(parents=True)
        place.write_text("code")
        return place

    def carry(self) -> bool:
        return carry(self.layout, self.new, current_account(), str(self.cache))

    def carried(self) -> list[str]:
        root = self.cache / "app-shop" / NEW
        return sorted(str(path.relative_to(root)) for path in root.rglob("*.pyc"))


def test_packages_and_the_standard_library_are_linked_the_applications_own_code_is_not(tmp_path: Path) -> None:
    host = Host(tmp_path)
    assert host.carry()
    packages = f"{host.layout.release(NEW)}/web/.venv/lib/fastapi/x.pyc"
    # below the root's first folder nothing else is taken, not even somebody else's code
    assert host.carried() == sorted([packages[1:], "usr/lib/python3.11/os.pyc"])
    assert os.path.samefile(host.package, f"{host.cache}/app-shop/{NEW}{packages}")


def test_with_another_lock_packages_are_compiled_anew(tmp_path: Path) -> None:
    host = Host(tmp_path)
    Path(host.layout.release(NEW), "web", "uv.lock").write_text("sama\n")
    assert host.carry()
    assert host.carried() == ["usr/lib/python3.11/os.pyc"]


def test_in_legacy_mode_the_shared_environments_code_is_taken_over(tmp_path: Path) -> None:
    host = Host(tmp_path)
    settings = Path(host.layout.release_settings(OLD), "release.json")
    settings.write_text(json.dumps(vars(described(OLD, "web", "legacy"))))
    host.new = described(NEW, "web", "legacy")
    shared = f"{host.layout.venvs}/0123456789abcdef/lib/flask/x.pyc"
    host.compiled(OLD, shared)
    assert host.carry()
    assert host.carried() == sorted([shared[1:], "usr/lib/python3.11/os.pyc"])


@pytest.mark.parametrize("missing", ["link", "lock", "code"])
def test_what_is_missing_is_no_error(tmp_path: Path, missing: str) -> None:
    host = Host(tmp_path)
    if missing == "link":
        host.layout.set_link("current", None)
    elif missing == "lock":
        Path(host.layout.release(OLD), "web", "uv.lock").unlink()
    else:
        host.package.unlink()
        host.package.parent.rmdir()
        host.package.parent.parent.rmdir()
        host.package.parents[2].rmdir()
    assert not host.carry()
    assert host.carried() == []
