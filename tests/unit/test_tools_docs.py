# Copyright: pyfleet contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The tool behind `make docs`, and whether what it wrote is up to date."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ansible_collections.pyfleet.runtime.tests.tools import docs, flow_tables, server_settings

SPECS = {
    "argument_specs": {
        "main": {
            "short_description": "Puts C(uv) on a host",
            "description": ["First.", "Second with V(true)."],
            "options": {
                "uv_version": {"type": "str", "required": True, "description": "The version, as in V(1.2|3)."},
                "uv_indexes": {
                    "type": "list",
                    "elements": "dict",
                    "default": [],
                    "description": ["Indexes."],
                    "options": {"url": {"type": "str", "required": True, "description": "Its address."}},
                },
                "uv_mode": {"default": "wheel", "choices": ["wheel", "file"], "description": "How."},
            },
        },
        "remove": {"short_description": "Takes it off", "options": {"uv_version": {"required": True}}},
    }
}

FINDINGS = """
from __future__ import annotations
from dataclasses import dataclass
@dataclass(frozen=True)
class Entry:
    severity: str
    rule: str
    message: str
    explanation: str
    remedy: str
CATALOGUE = {
    "quote": Entry("warning", "A3", "The command has an {kind} quote.", "a valid command splits", "close it in `{variable}`"),
    "name": Entry("error", "input", "Bad name.", "names are short", "rename it."),
}
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Make a small collection."""
    meta = tmp_path / "roles/uv/meta"
    meta.mkdir(parents=True)
    (meta / "argument_specs.yml").write_text(yaml.safe_dump(SPECS, sort_keys=False))
    (tmp_path / "plugins/module_utils").mkdir(parents=True)
    (tmp_path / "plugins/module_utils/findings.py").write_text(FINDINGS)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/troubleshooting.md").write_text("# Troubleshooting\n\nBy hand.\n")
    return tmp_path


def test_variables_have_type_default_and_meaning(tree: Path) -> None:
    text = docs.generated(tree)[tree / "docs/variables.md"]
    assert "| `uv_version` | str | **required** | The version, as in `1.2\\|3`. |" in text
    assert "| `uv_indexes` | list of dict | `[]` | Indexes. |" in text
    assert "| `uv_mode` | str | `wheel` | How. One of `wheel`, `file`. |" in text


def test_a_readme_nests_options_and_names_entry_points(tree: Path) -> None:
    text = docs.generated(tree)[tree / "roles/uv/README.md"]
    assert "Puts `uv` on a host\n\nFirst.\n\nSecond with `true`.\n" in text
    assert "\n  - `url` (str, **required**)\n\n    Its address.\n" in text
    assert "### `remove`\n\nTakes it off\n\nTakes `uv_version` as above." in text


def test_messages_follow_what_is_written_by_hand(tree: Path) -> None:
    page = tree / "docs/troubleshooting.md"
    text = docs.generated(tree)[page]
    assert text.startswith("# Troubleshooting\n\nBy hand.\n\n" + docs.MARK)
    assert "## Errors of the plan\n\n### Bad name.\n" in text
    assert "### The command has an ‹kind› quote.\n\n- Rule [A3](contract.md): a valid command splits.\n" in text
    assert "- Next step: Close it in `‹variable›`\n" in text
    page.write_text(text)
    assert docs.generated(tree)[page] == text


def test_a_change_makes_files_stale(tree: Path) -> None:
    for path, text in docs.generated(tree).items():
        path.write_text(text)
    assert docs.stale(tree) == []
    specs = tree / "roles/uv/meta/argument_specs.yml"
    specs.write_text(specs.read_text().replace("wheel", "wheels"))
    assert docs.stale(tree) == [tree / "roles/uv/README.md", tree / "docs/variables.md"]


def test_generated_documentation_is_up_to_date() -> None:
    assert [path.name for path in docs.stale(docs.ROOT) if path.exists()] == [], "run 'make docs'"


def test_settings_of_legacy_mode_have_the_bounds_that_the_plan_asks_for() -> None:
    lines = {line.split("`")[1]: line for line in server_settings.settings()[2:]}
    assert lines["HARAKIRI"].startswith("| `HARAKIRI` | `180` | 0 to 86400 seconds; `0`: no limit | uwsgi | ")
    assert "| `info` | `debug`, `info`, `warning`, `error`, `critical` | gunicorn |" in lines["CC_GUNICORN_LOGLEVEL"]
    assert "| off | a switch | all |" in lines["ENABLE_GZIP_COMPRESSION"]
    assert "| 3.9 | `pyuwsgi==" in server_settings.section()


def test_a_setting_without_words_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row for row in server_settings.ROWS if row.variable != "HARAKIRI"]
    monkeypatch.setattr(server_settings, "ROWS", rows)
    with pytest.raises(SystemExit, match=r"different settings: HARAKIRI\Z"):
        server_settings.settings()


def test_settings_of_the_chain_are_those_that_the_plan_reads() -> None:
    lines = {line.split("`")[1]: line for line in flow_tables.settings()[2:]}
    assert "`otoroshi-challenge`, `varnish`, `redirectionio`" in lines["CC_REQUEST_FLOW"]
    assert "| `1G` | at least 1M" in lines["CC_VARNISH_STORAGE_SIZE"]
    assert "`EMAIL_DOMAINS`" in flow_tables.section()


def test_a_setting_of_the_chain_without_words_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_tables, "ROWS", [*flow_tables.ROWS[1:], flow_tables.Row("CC_NOBODY", "Nothing.")])
    with pytest.raises(SystemExit, match=r"different settings: CC_NOBODY, CC_REQUEST_FLOW\Z"):
        flow_tables.settings()
