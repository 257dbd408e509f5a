# Copyright: (c) 2026, the pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""H3: which extras a host builds with, and what the plan says about it."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.plugins.module_utils import accelerator
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.pyproject import extras_of

from .support import INPUTS, ask

pytestmark = pytest.mark.rule("H3")

EXTRAS = ["cpu", "cu118", "cu124", "cu128", "cu130", "rocm6.4", "rocm6.10", "xpu", "Ser_ver"]
PROJECT = {"extras": EXTRAS, "conflicts": [["cpu", "cu128"], ["Ser.ver", "xpu"]]}


def gpu(vendor: str, driver: str = "", ready: bool = True, groups: tuple[str, ...] = ()) -> dict[str, Any]:
    """What app_info says of the GPUs of one vendor."""
    return {"vendor": vendor, "devices": 1, "driver": driver, "ready": ready, "groups": list(groups)}


def plan(
    wanted: Any = "", extras: Any = (), *found: dict[str, Any], project: Any = PROJECT, **more: Any
) -> dict[str, Any]:
    """The plan of an application with these variables on a host with this hardware."""
    source = {**INPUTS["source"], "project": project}
    app = {"accelerator": wanted, "extras": list(extras) if isinstance(extras, tuple) else extras}
    return ask(app=app, source=source, host={"accelerators": list(found)}, **more)


def codes(made: dict[str, Any], kind: str = "errors") -> list[str]:
    """The codes of the findings that this page is about."""
    return [item["code"] for item in made[kind]]


def test_b1_the_command_is_exact_without_the_two_variables() -> None:
    made = plan()
    assert made["build"]["argv"] == ["sync", "--locked", "--no-progress", "--no-dev"]
    assert made["build"]["extras"] == []
    assert not any("Accelerator" in line for line in made["summary"])


def test_extras_follow_the_flags_in_the_spelling_of_the_project() -> None:
    made = plan("CU128", ("ser-VER",))
    assert not made["errors"]
    assert made["build"]["argv"][-4:] == ["--extra", "Ser_ver", "--extra", "cu128"]
    assert made["build"]["accelerator"]["name"] == "cu128"
    assert "Accelerator  app_accelerator: CU128" in made["summary"]


def test_b3_flags_of_the_application_are_kept_and_may_not_name_extras_as_well() -> None:
    made = plan("cpu", env={"CC_PYTHON_UV_SYNC_FLAGS": "--frozen --group=gpu"})
    assert made["build"]["argv"] == ["sync", "--frozen", "--group=gpu", "--extra", "cpu"]
    for flag in ("--extra server", "--extra=server", "--all-extras", "--no-extra=xpu"):
        assert codes(plan("cpu", env={"CC_PYTHON_UV_SYNC_FLAGS": f"--locked {flag}"})) == ["extras_in_flags"]
        assert not plan(env={"CC_PYTHON_UV_SYNC_FLAGS": f"--locked {flag}"})["errors"]
    assert not plan("cpu", env={"CC_PYTHON_UV_SYNC_FLAGS": "--extra-index-url x --locked"})["errors"]


@pytest.mark.parametrize(
    ("driver", "picked", "words"),
    [
        ("550.54.14", "cu124", "NVIDIA driver 550.54.14 runs CUDA up to 12.4: extra cu124"),
        ("570.86.10", "cu128", "up to 12.8"),
        ("575.51.03", "cu128", "up to 12.9"),
        ("580.65.06", "cu130", "up to 13.0"),
        ("610.43.02", "cu130", "up to 13.3"),
        ("999.1", "cu130", "up to 13.4"),
        ("535.183.01", "cu118", "up to 12.2"),
        ("470.256.02", "cu118", "up to 11.4: extra cu118 (CUDA's minor version compatibility within 11.x)"),
        ("390.157", "cpu", "older than CUDA 11: extra cpu (it runs none of cu118, cu124, cu128, cu130)"),
        ("", "cpu", "of an unknown version"),
    ],
)
def test_auto_picks_the_newest_cuda_that_the_driver_runs(driver: str, picked: str, words: str) -> None:
    made = plan("auto", (), gpu("nvidia", driver))
    assert not made["errors"]
    assert made["build"]["argv"][-2:] == ["--extra", picked]
    (line,) = [line for line in made["summary"] if line.startswith("Accelerator")]
    assert line.startswith("Accelerator  auto: ")
    assert words in line


def test_a_driver_runs_what_its_minor_version_compatibility_allows_rather_than_nothing() -> None:
    made = plan("auto", (), gpu("nvidia", "550.54.14"), project={"extras": ["cpu", "cu130", "cu129", "cu128"]})
    assert made["build"]["extras"] == ["cu128"]


@pytest.mark.parametrize(
    ("found", "picked"),
    [
        ([gpu("amd", "amdgpu")], "rocm6.10"),
        ([gpu("intel", "xe")], "xpu"),
        ([gpu("nvidia", "390.1"), gpu("amd", "amdgpu")], "rocm6.10"),
        ([gpu("nvidia", "550.1"), gpu("amd", "amdgpu"), gpu("intel", "xe")], "cu124"),
        ([gpu("nvidia", ready=False), gpu("intel", "xe")], "xpu"),
        ([gpu("amd", ready=False)], "cpu"),
        ([], "cpu"),
    ],
)
def test_auto_takes_the_first_vendor_that_works(found: list[dict[str, Any]], picked: str) -> None:
    assert plan("auto", (), *found)["build"]["extras"] == [picked]


def test_a_gpu_without_a_driver_is_a_warning_and_only_where_no_other_works() -> None:
    made = plan("auto", (), gpu("nvidia", ready=False))
    assert codes(made, "warnings") == ["accelerator_without_driver"]
    assert made["build"]["extras"] == ["cpu"]
    assert not plan("auto", (), gpu("nvidia", ready=False), gpu("amd", "amdgpu"))["warnings"]
    assert not plan("cpu", (), gpu("nvidia", ready=False))["warnings"], "somebody decided"


def test_what_a_gpu_can_do_without_an_extra_for_it_is_told() -> None:
    made = plan("auto", (), gpu("amd", "amdgpu"), project={"extras": ["cpu", "cu128"]})
    assert "Accelerator  auto: AMD GPU with the driver amdgpu: extra cpu (there is no rocmN.N)" in made["summary"]


def test_nothing_that_fits_is_an_error_that_lists_what_there_is() -> None:
    made = plan("auto", (), project={"extras": ["cu128", "docs"]})
    assert codes(made) == ["accelerator_none"]
    assert "cu128, docs" in made["errors"][0]["rule"]
    assert "no GPU found" in made["errors"][0]["message"]
    assert codes(plan("auto", project={"extras": None, "conflicts": []})) == ["accelerator_none"]
    assert not codes(plan("auto", project=None)), "a pyproject.toml that cannot be read is uv's to refuse"


def test_without_a_look_at_a_host_nothing_is_decided() -> None:
    made = ask(app={"accelerator": "auto"}, source={**INPUTS["source"], "project": PROJECT}, host=None)
    choice = accelerator.choose({"accelerator": "auto"}, {}, uv_mode=True, project=PROJECT, host=None)
    assert (choice.extras, choice.variant) == ((), ())
    assert not codes(made)


def test_an_extra_that_the_project_lacks_is_an_error_that_lists_those_it_has() -> None:
    made = plan("cu999", ("none",))
    assert codes(made) == ["extra_unknown", "extra_unknown"]
    assert {item["variable"] for item in made["errors"]} == {"app_extras", "app_accelerator"}
    assert "cpu, cu118" in made["errors"][0]["rule"]
    assert codes(plan("cu128", project={"extras": [], "conflicts": []})) == ["extra_unknown"]
    assert not codes(plan("cu128", project={"extras": None, "conflicts": []})), "a build backend declares them"


@pytest.mark.parametrize(
    ("wanted", "extras", "pair"),
    [
        ("cu128", ("cpu",), "cpu and cu128"),
        ("cu124", ("xpu",), "xpu and cu124"),
        ("", ("ser-ver", "xpu"), "ser-ver and xpu"),
        ("xpu", ("ser-ver",), "ser-ver and xpu"),
    ],
)
def test_extras_that_exclude_each_other_are_an_error(wanted: str, extras: tuple[str, ...], pair: str) -> None:
    made = plan(wanted, extras)
    assert codes(made) == ["extras_conflict"]
    assert f"{pair} exclude each other" in made["errors"][0]["message"]


def test_the_same_extra_twice_is_one() -> None:
    assert plan("cpu", ("CPU",))["build"]["argv"].count("--extra") == 1
    assert not plan("cpu", ("CPU",))["errors"]


@pytest.mark.parametrize(("wanted", "extras"), [(["cpu"], ()), ("", {"a": 1}), ("", [1]), (1, ()), ("", 3)])
def test_values_of_another_kind_are_errors(wanted: Any, extras: Any) -> None:
    assert codes(plan(wanted, extras)) == ["option_invalid"]


def test_a_survey_gives_extras_as_text() -> None:
    assert plan("", "cpu, Ser_ver")["build"]["extras"] == ["cpu", "Ser_ver"]
    assert plan(None, "")["build"]["extras"] == []
    assert plan("", None)["build"]["extras"] == []


def test_a4_the_backend_of_the_pip_interface_is_ignored_in_uv_mode_and_says_so() -> None:
    assert "UV_TORCH_BACKEND" in [item["name"] for item in plan(env={"UV_TORCH_BACKEND": "cpu"})["ignored"]]


def test_devices_are_shown_to_what_uses_them() -> None:
    amd = gpu("amd", "amdgpu", groups=("render",))
    made = {name: plan(name, (), amd)["build"]["accelerator"] for name in ("rocm6.4", "cpu", "")}
    assert (made["rocm6.4"]["devices"], made["rocm6.4"]["groups"]) == (True, ["render"])
    assert not made["cpu"]["devices"]
    assert not made["cpu"]["groups"]
    assert not made[""]["devices"]
    assert plan("", ("Ser_ver", "cu128"))["build"]["accelerator"]["devices"], "an accelerator wherever it is named"
    assert plan("ser-ver", ())["build"]["accelerator"]["devices"], "whatever it is called"


# -- legacy mode -------------------------------------------------------------------------------------------------------------


def legacy(wanted: Any, *found: dict[str, Any], env: dict[str, str] | None = None, extras: Any = ()) -> dict[str, Any]:
    """The plan of an application without a lock."""
    variables = {"CC_PYTHON_UV_RUN_COMMAND": None, "CC_RUN_COMMAND": "python serve.py", **(env or {})}
    source = {**INPUTS["source"], "files": ["requirements.txt", "serve.py"], "texts": {"requirements.txt": "torch\n"}}
    app = {"accelerator": wanted, "extras": list(extras)}
    return ask(variables, app=app, source=source, host={"accelerators": list(found)})


def test_the_pip_interface_gets_its_backend_in_the_build_alone() -> None:
    made = legacy("cu128")
    assert made["build"]["environment"]["UV_TORCH_BACKEND"] == "cu128"
    assert "UV_TORCH_BACKEND" not in made["environment"]
    assert made["build"]["accelerator"]["devices"]
    assert "UV_TORCH_BACKEND" not in legacy("")["build"]["environment"]
    assert legacy("", env={"UV_TORCH_BACKEND": "cpu"})["build"]["environment"]["UV_TORCH_BACKEND"] == "cpu"


def test_auto_leaves_the_index_to_uv_and_tells_it_the_driver() -> None:
    found = legacy("auto", gpu("nvidia", "550.54.14"))["build"]["environment"]
    assert (found["UV_TORCH_BACKEND"], found["UV_CUDA_DRIVER_VERSION"]) == ("auto", "550.54.14")
    assert legacy("auto")["build"]["environment"]["UV_TORCH_BACKEND"] == "cpu"
    assert legacy("auto", gpu("intel", "xe"))["build"]["environment"]["UV_TORCH_BACKEND"] == "xpu"
    assert legacy("auto", gpu("amd", "amdgpu"))["build"]["environment"]["UV_TORCH_BACKEND"] == "auto"


def test_what_legacy_mode_cannot_take_is_an_error_or_named_as_ignored() -> None:
    assert "accelerator_backend" in codes(legacy("gpu"))
    assert "accelerator_twice" in codes(legacy("cpu", env={"UV_TORCH_BACKEND": "cu128"}))
    assert "app_extras" in [item["name"] for item in legacy("", extras=["server"])["ignored"]]
    assert "accelerator_without_driver" in codes(legacy("auto", gpu("amd", ready=False)), "warnings")


def variant(wanted: str, *found: dict[str, Any]) -> tuple[str, ...]:
    """What makes a release of legacy mode differ."""
    host = {"accelerators": list(found)}
    return accelerator.choose({"accelerator": wanted}, {}, uv_mode=False, project=None, host=host).variant


def test_another_gpu_or_branch_of_its_driver_makes_another_release_in_legacy_mode() -> None:
    different = [
        variant(""),
        variant("auto"),
        variant("cu128"),
        variant("auto", gpu("nvidia", "550.54.14")),
        variant("auto", gpu("nvidia", "580.1")),
        variant("auto", gpu("amd", "amdgpu")),
        variant("auto", gpu("intel", "xe")),
    ]
    assert len(set(different)) == len(different)
    assert variant("auto", gpu("nvidia", "550.54.14")) == variant("auto", gpu("nvidia", "550.90.07"))
    assert variant("auto") == variant("cpu")


# -- pyproject.toml ----------------------------------------------------------------------------------------------------------


def test_extras_and_conflicts_are_read_wherever_toml_puts_them() -> None:
    text = """
project.name = "x"
project.optional-dependencies = { cpu = ["torch"], "rocm6.4" = [] }
tool.uv.conflicts = [[{ extra = "cpu" }, { extra = "rocm6.4" }, { group = "dev" }], [{ package = "y", extra = "cpu" }]]
"""
    assert extras_of(text) == {"extras": ["cpu", "rocm6.4"], "conflicts": [["cpu", "rocm6.4"], []]}
    assert extras_of('[project]\ndynamic = ["optional-dependencies"]\n') == {"extras": None, "conflicts": []}
    assert extras_of("[project]\nname = 'x'\n") == {"extras": [], "conflicts": []}
    assert extras_of("project = 3\n[tool]\nuv = 1\n") == {"extras": [], "conflicts": []}
    assert extras_of("[project") is None
    assert extras_of(None) is None
