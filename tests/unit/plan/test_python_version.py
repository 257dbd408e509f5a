# Copyright: (c) 2026, the pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Section C: which Python."""

from __future__ import annotations

import datetime

import pytest

from ansible_collections.pyfleet.runtime.plugins.module_utils import python_version
from ansible_collections.pyfleet.runtime.plugins.module_utils.plan import make_plan
from ansible_collections.pyfleet.runtime.plugins.module_utils.python_version import select

TODAY = datetime.date(2026, 11, 20)


def host(*versions: str) -> list[dict[str, object]]:
    """`3.11.2` is the distribution's, `m3.13.1` managed by uv, `+3.9.9` what uv could fetch."""
    return [
        {"version": v.lstrip("m+"), "path": "/p", "managed": v[0] == "m", "installable": v[0] == "+"} for v in versions
    ]


@pytest.mark.parametrize("request_", [None, "", "3"])
def test_c1_default_is_the_newest_supported(request_: str | None) -> None:
    found = select(request_, host("3.9.2", "3.13.1", "3.11.2", "2.7.18"), TODAY)
    assert found.selected is not None
    assert (found.selected.version, found.findings) == ("3.13.1", ())


def test_c1_three_hands_the_newest_to_uv() -> None:
    assert select("3", host("3.11.2", "3.13.1"), TODAY, mode="uv").request == "3.13"


def test_c1_no_python_at_all_is_an_error() -> None:
    assert [item.code for item in select(None, host("2.7.18"), TODAY).findings] == ["python_none"]


def test_c2_two_means_2_7_and_must_be_asked_for() -> None:
    found = select("2", host("2.7.18", "3.13.1"), TODAY)
    assert found.selected is not None
    assert found.selected.version == "2.7.18"
    assert [item.code for item in select("2", host("3.13.1"), TODAY, mode="uv").findings] == ["python_version_2_in_uv"]


@pytest.mark.parametrize("mode", ["uv", "legacy"])
def test_c3_ended_version_falls_back(mode: str) -> None:
    found = select("3.9", host("3.9.2", "3.13.1"), TODAY, mode=mode)
    assert found.selected is not None
    assert (found.selected.version, found.request) == ("3.13.1", "3.13" if mode == "uv" else None)
    (warning,) = found.findings
    for word in ("3.9", "3.13", "2025-10-31", "CC_PYTHON_VERSION"):
        assert word in warning.render()


def test_c3_unavailable_version_falls_back_naming_both() -> None:
    (warning,) = select("3.12", host("3.13.1"), TODAY, mode="uv").findings
    assert warning.code == "python_version_unavailable"
    for word in ("3.12", "3.13", "2028-10-31", "CC_PYTHON_VERSION"):
        assert word in warning.render()


def test_c3_missing_patch_version_stays_in_its_series() -> None:
    found = select("3.11.9", host("3.11.2", "3.13.1"), TODAY, mode="uv")
    assert found.request == "3.11"


def test_c3_fall_back_prefers_what_requires_python_admits() -> None:
    assert select("3.12", host("3.13.1", "3.11.2"), TODAY, mode="uv", requires=">=3.11,<3.13").request == "3.11"


@pytest.mark.parametrize("text", ["three", "4", "3.x", ">=3.11", "3.11.2.1", "python3.11", "-3", "٣"])
def test_c3_garbage_is_an_error(text: str) -> None:
    assert [item.code for item in select(text, host("3.13.1"), TODAY).findings] == ["python_version_invalid"]


def test_c3_yaml_number_is_explained() -> None:
    (error,) = select("3.1", host("3.13.1"), TODAY).findings
    assert '"3.10"' in error.next_step


@pytest.mark.parametrize(
    ("series", "last"),
    [((3, 9), "2025-10-31"), ((3, 10), "2026-10-31"), ((3, 11), "2027-10-31"), ((3, 15), "2031-10-31")],
)
def test_c4_table_and_date_decide(series: tuple[int, int], last: str) -> None:
    day = datetime.date.fromisoformat(last)
    assert not python_version.is_ended(series, day)
    assert python_version.is_ended(series, day + datetime.timedelta(days=1))


def test_c4_six_months_warn() -> None:
    assert not python_version.is_ending((3, 11), datetime.date(2027, 4, 29))
    assert python_version.is_ending((3, 11), datetime.date(2027, 4, 30))
    assert not python_version.is_ending((3, 11), datetime.date(2027, 11, 1))
    found = select("3.11", host("3.11.2"), datetime.date(2027, 6, 1), mode="uv")
    assert [item.code for item in found.findings] == ["python_support_ending"]


def test_c4_only_an_ended_python_is_used_with_a_warning() -> None:
    found = select(None, host("3.9.2"), TODAY)
    assert [item.code for item in found.findings] == ["python_support_ended"]


def test_c1_c5_without_the_variable_the_newest_that_fits_is_asked_for() -> None:
    """uv alone would take the managed 3.12, and with it another version than before somebody added it to the shelf."""
    found = select(None, host("3.11.2", "m3.12.4", "3.13.1"), TODAY, mode="uv", requires=">=3.11")
    assert found.selected is not None
    assert (found.request, found.selected.version) == ("3.13", "3.13.1")
    older = select(None, host("3.11.2", "m3.12.4", "3.13.1"), TODAY, mode="uv", requires="<3.13")
    assert older.request == "3.12"
    pinned = select(None, host("3.11.2", "3.13.1"), TODAY, mode="uv", pinned="3.11")
    assert pinned.selected is not None
    assert pinned.selected.version == "3.11.2"


def test_c5_requires_python_that_the_host_cannot_meet_warns() -> None:
    found = select(None, host("3.11.2"), TODAY, mode="uv", requires=">=3.14")
    assert [item.code for item in found.findings] == ["python_requires_unmet"]
    conflict = select("3.11", host("3.11.2"), TODAY, mode="uv", requires=">=3.14")
    assert [item.code for item in conflict.findings] == ["python_requires_conflict"]


def test_c5_sideloading_past_the_end_of_support_warns() -> None:
    found = select("3.9", host("3.13.1", "+3.9.18"), TODAY, mode="uv")
    assert (found.request, found.source) == ("3.9", "managed")
    assert [item.code for item in found.findings] == ["python_support_ended"]


def test_c5_request_without_a_host_is_kept() -> None:
    assert select("3.12", None, TODAY, mode="uv").request == "3.12"


@pytest.mark.parametrize(
    ("release", "requires", "fits"),
    [
        ((3, 11, 2), ">=3.11", True),
        ((3, 11, 2), ">=3.11,<3.13", True),
        ((3, 13, 1), ">=3.11,<3.13", False),
        ((3, 11, 2), "==3.11.*", True),
        ((3, 12, 0), "!=3.12.*", False),
        ((3, 12, 0), "~=3.11", True),
        ((3, 12, 0), "~=3.11.0", False),
        ((3, 11, 0), "==3.11", True),
        ((3, 11, 1), ">3.11", True),
        ((3, 11, 0), "<=3.11", True),
        ((3, 11, 0), "", True),
        ((3, 11, 0), "nonsense", None),
    ],
)
def test_c5_specifiers(release: tuple[int, ...], requires: str, fits: bool | None) -> None:
    assert python_version.satisfies(release, requires) is fits


def test_c5_requires_python_is_read_from_the_project_table_only() -> None:
    text = "[tool.x]\nrequires-python = '>=2'\n[project]\nname = 'a'\nrequires-python = \">=3.11\"  # why\n[tool.y]\n"
    assert python_version.requires_python(text) == ">=3.11"
    assert python_version.requires_python("[tool.x]\nrequires-python = '>=2'\n") == ""
    assert python_version.pinned_version("# a\n\ncpython@3.12.4\n") == "3.12.4"


@pytest.mark.parametrize(
    ("files", "env", "request_for_uv"),
    [
        ({}, {}, "3.13"),
        ({".python-version": "pypy@3.11\n"}, {}, None),
        ({".python-version": "3.11\n"}, {}, None),
        ({}, {"UV_PYTHON": "3.11"}, None),
        ({".python-version": "3.11\n"}, {"CC_PYTHON_VERSION": "3.13"}, "3.13"),
    ],
)
def test_c5_what_the_project_asks_uv_for_stays_uvs_to_read(
    files: dict[str, str], env: dict[str, str], request_for_uv: str | None
) -> None:
    plan = make_plan(
        {
            "app": {"name": "shop", "root": "/srv/pyfleet/shop", "user": "app-shop"},
            "env": {"CC_PYTHON_UV_RUN_COMMAND": "uv run server --port $PORT", **env},
            "source": {"files": ["uv.lock", "pyproject.toml", *files], "texts": files, "commit": "", "digest": ""},
            "host": {
                "pythons": [{"version": version, "path": "", "managed": False} for version in ("3.11.2", "3.13.5")]
            },
            "today": TODAY.isoformat(),
        }
    )
    assert plan["python"]["request"] == request_for_uv
    assert plan["build"]["environment"].get("UV_PYTHON") == (request_for_uv or env.get("UV_PYTHON"))
