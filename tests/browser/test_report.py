# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a rollout in a real browser: it fits, can be read in both colour schemes, and asks nobody for anything.

PYFLEET_PICTURES=FOLDER keeps a picture of each view.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.plugins.plugin_utils import report
from ansible_collections.pyfleet.runtime.tests.browser.chromium import Page, browser
from ansible_collections.pyfleet.runtime.tests.unit.fleet import report_sample

WIDTHS = (1280, 390)
READABLE = 4.5  # WCAG 2, level AA, for text of ordinary size

# Every visible text with the contrast between its colour and what lies behind it: the first ancestor that is painted.
CONTRASTS = """
(() => {
  const rgb = text => text.match(/[0-9.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const part = v => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, words = walker.currentNode.data.trim();
    if (!words || !element.checkVisibility() || element.closest("script, style, option")) continue;
    const style = getComputedStyle(element);
    if (parseFloat(style.fontSize) === 0) continue;
    let behind = element, back = [0, 0, 0, 0];
    while (behind && (back = rgb(getComputedStyle(behind).backgroundColor))[3] === 0) behind = behind.parentElement;
    const [a, b] = [light(rgb(style.color)), light(back)].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), words, style.color, getComputedStyle(behind).backgroundColor]);
  }
  return found;
})()
"""

# Of every lane with bars: name of the host, where it lies, and its bars as [phase, left, right, shown width].
LANES = """
[...document.querySelectorAll("table.time tr[data-host]")].map(row => {
  const lane = row.querySelector(".lane").getBoundingClientRect();
  return {host: row.dataset.host, left: lane.left, right: lane.right, bars: [...row.querySelectorAll(".bar")].map(bar => {
    const box = bar.getBoundingClientRect();
    return [bar.querySelector(".name").textContent, box.left, box.right, box.width, box.height];
  })};
})
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("chromium") / "profile") as opened:
        yield opened


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reports of 12 hosts, of 1, of 200, of hosts with hardly any facts, and of hostile ones."""
    folder = tmp_path_factory.mktemp("reports")
    runs: dict[str, tuple[dict[str, Any], dict[str, dict[str, Any]]]] = {
        "twelve": report_sample.rollout(),
        "one": report_sample.rollout(1),
        "many": report_sample.rollout(200),
        "bare": report_sample.bare(),
        "hostile": hostile(),
    }
    for name, (run, entries) in runs.items():
        assert report.write(str(folder / f"{name}.html"), run, entries) == ""
    return folder


def hostile() -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Texts that would run, load or overflow if one of them were taken for anything else."""
    run, entries = report_sample.rollout(3)
    words = (
        "</script></pre></style><script>window.pwned = 1</script><img src='https://evil.example/x.png' onerror='window.pwned = 2'>"
        '" onmouseover="window.pwned = 3" style="background: url(\'https://evil.example/y.png\')" ' + "W" * 3000
    )
    names = [f"{name}{words}" for name in run["hosts"]]
    poisoned = {
        name: {**entry, "message": words, "log": [words, f"Response from GET /{words.replace(' ', '')} is 200"], "warnings": [words],
               "before": words, "release": words, "commit": words, "version": words, "kind": words + name}
        for name, entry in zip(names, entries.values(), strict=True)
    }  # fmt: skip
    return {**run, "hosts": names, "app": words, "holder": words, "message": words, "run": words}, poisoned


def show(page: Page, folder: Path, name: str, width: int = 1280, dark: bool = False) -> None:
    page.show(width, dark=dark)
    page.open((folder / f"{name}.html").as_uri())
    if pictures := os.environ.get("PYFLEET_PICTURES"):
        page.picture(Path(pictures) / f"{name}-{width}-{'dark' if dark else 'light'}.png")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["twelve", "one", "many", "bare", "hostile"])
def test_it_fits_and_is_alone(page: Page, folder: Path, name: str, width: int) -> None:
    show(page, folder, name, width)
    assert page.requests == [(folder / f"{name}.html").as_uri()]
    assert page.complaints == []
    assert page.run("window.pwned") is None
    assert page.run("innerWidth") == width
    assert page.run("document.documentElement.scrollWidth") <= width
    # Nothing is cut off by a table or a card, either.
    assert (
        page.run(
            """[...document.querySelectorAll("section, header")].filter(one => one.scrollWidth > one.clientWidth).length"""
        )
        == 0
    )


def test_the_checks_above_see_what_they_look_for(page: Page, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text(
        '<body><section style="width: 100px"><div style="width: 3000px; color: #777; background-color: #888">wide</div></section>'
        "<img src='other.png'><script>console.error('no'); undefined_function();</script></body>"
    )
    page.show(1280)
    page.open(bad.as_uri())
    assert bad.with_name("other.png").as_uri() in page.requests
    assert any("undefined_function" in complaint for complaint in page.complaints)
    assert "error" in page.complaints
    assert page.run("document.documentElement.scrollWidth") > 1280
    assert next(entry for entry in page.run(CONTRASTS) if entry[1] == "wide")[0] < 1.5


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["twelve", "one", "many"])
def test_bars_can_be_seen_and_lie_on_the_axis_in_order(page: Page, folder: Path, name: str, width: int) -> None:
    show(page, folder, name, width)
    journal = json.loads((folder / f"{name}.json").read_text())
    lanes = page.run(LANES)
    assert [lane["host"] for lane in lanes] == journal["run"]["hosts"]
    assert len({(lane["left"], lane["right"]) for lane in lanes}) == 1, "all lanes are the same axis"
    started, length = journal["run"]["started"], journal["run"]["ended"] - journal["run"]["started"]
    for lane in lanes:
        phases = journal["hosts"][lane["host"]]["phases"]
        assert [bar[0] for bar in lane["bars"]] == [phase["name"] for phase in phases]
        lefts = [bar[1] for bar in lane["bars"]]
        assert lefts == sorted(lefts)
        for phase, (_name, left, right, shown, height) in zip(phases, lane["bars"], strict=True):
            assert shown > 0
            assert height > 8
            assert lane["left"] - 0.5 <= left < right <= lane["right"] + 2.5
            place = lane["left"] + (phase["started"] - started) / length * (lane["right"] - lane["left"])
            assert left == pytest.approx(place, abs=1)


def test_ticks_lie_where_the_bars_of_that_second_do(page: Page, folder: Path) -> None:
    show(page, folder, "twelve")
    lane = page.run(LANES)[0]
    seconds = json.loads((folder / "twelve.json").read_text())["run"]
    length = seconds["ended"] - seconds["started"]
    ticks = page.run(
        """[...document.querySelectorAll(".axis span")].map(one => [parseFloat(one.textContent), one.getBoundingClientRect().left,
           one.getBoundingClientRect().right])"""
    )
    assert [tick[0] for tick in ticks] == [0, 10, 20, 30, 40, 50]
    for second, left, right in ticks[1:]:
        assert (left + right) / 2 == pytest.approx(
            lane["left"] + second / length * (lane["right"] - lane["left"]), abs=1
        )
    assert all(one[2] < other[1] for one, other in zip(ticks, ticks[1:], strict=False)), "labels do not overlap"


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_everything_can_be_read_in_both_schemes(page: Page, folder: Path, dark: bool, width: int) -> None:
    show(page, folder, "twelve", width, dark)
    page.run("document.getElementById('unfold').click()")
    contrasts = page.run(CONTRASTS)
    assert len(contrasts) > 200
    assert [entry for entry in contrasts if entry[0] < READABLE] == []
    # The scheme is really another one.
    red, green, blue = page.run("getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number)")
    assert max(red, green, blue) < 60 if dark else min(red, green, blue) > 230


def test_phases_differ_without_colour(page: Page, folder: Path) -> None:
    show(page, folder, "twelve")
    looks = page.run(
        """[...document.querySelectorAll(".legend .swatch")].map(one => one.textContent + getComputedStyle(one).backgroundImage)"""
    )
    assert len(looks) == 10
    letters = page.run("""[...document.querySelectorAll(".legend .swatch")].map(one => one.textContent)""")
    assert len(set(letters)) == len(letters)
    # Neighbours on a lane have another pattern each, so that a bar too narrow for letters is told from the next one.
    patterns = page.run(
        """[...document.querySelectorAll("table.time tr[data-host]")].map(
             row => [...row.querySelectorAll(".bar")].map(one => getComputedStyle(one).backgroundImage))"""
    )
    assert all(one != other for lane in patterns for one, other in zip(lane, lane[1:], strict=False))


@pytest.mark.parametrize("width", WIDTHS)
def test_last_words_of_failed_hosts_are_seen_without_a_click(page: Page, folder: Path, width: int) -> None:
    show(page, folder, "twelve", width)
    text = page.run("document.body.innerText")
    for words in ("shop.database.PoolTimeout: no connection within 5 s", "web-06.ams.example.com", report_sample.LOST):
        assert words in text
    box = page.run(
        """(() => { const pre = [...document.querySelectorAll("pre")].find(one => one.textContent.includes("PoolTimeout"));
             const box = pre.getBoundingClientRect(); return [box.width, box.height, pre.checkVisibility()]; })()"""
    )
    assert box[0] > 200
    assert box[1] > 80
    assert box[2] is True


def test_without_scripts_all_is_there_but_the_filter(page: Page, folder: Path) -> None:
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page.show(1280)
        page.open((folder / "twelve.html").as_uri(), settle=False)
        assert page.run("document.getElementById('tools').checkVisibility()") is False
        assert page.run("document.querySelectorAll('table.hosts tbody tr').length") == 12
        assert "PoolTimeout" in page.run("document.body.innerText")
    finally:
        page.call("Emulation.setScriptExecutionDisabled", value=False)


def test_the_filter_shows_matching_hosts_in_both_tables(page: Page, folder: Path) -> None:
    show(page, folder, "twelve")
    visible = "[...document.querySelectorAll('tr[data-host]')].filter(row => row.checkVisibility()).map(row => row.dataset.host)"
    assert len(page.run(visible)) == 24
    page.run(
        "(only => { only.value = 'failed'; only.dispatchEvent(new Event('change')); })(document.getElementById('only'))"
    )
    assert page.run(visible) == ["web-06.ams.example.com", "web-07.fra.example.com"] * 2
    assert page.run("[...document.querySelectorAll('tr.batch')].filter(row => row.checkVisibility()).length") == 1
    page.run(
        "(find => { find.value = ' WEB-07'; find.dispatchEvent(new Event('input')); })(document.getElementById('find'))"
    )
    assert page.run(visible) == ["web-07.fra.example.com"] * 2
    assert page.run("document.getElementById('shown').textContent") == "1 shown"


def test_on_paper_nothing_is_folded_and_nothing_is_cut(page: Page, folder: Path) -> None:
    page.show(1040, media="print")  # A4 landscape, less its margins
    page.open((folder / "twelve.html").as_uri())
    assert page.run("document.documentElement.scrollWidth") <= 1040
    assert page.run("document.getElementById('tools').checkVisibility()") is False
    logs = (
        "[...document.querySelectorAll('.says details pre')].map(one => one.checkVisibility() && one.clientHeight > 10)"
    )
    assert set(page.run(logs)) == {True}
    page.show(1040)
    assert set(page.run(logs)) == {False}, "on the screen they are folded"


def test_names_of_columns_rows_and_lanes_reach_assistive_technology(page: Page, folder: Path) -> None:
    for width in WIDTHS:
        show(page, folder, "twelve", width)
        nodes = page.call("Accessibility.getFullAXTree")["nodes"]
        seen = [
            (str(node["role"]["value"]), str(node.get("name", {}).get("value", "")))
            for node in nodes
            if not node["ignored"] and "role" in node
        ]
        assert ("rowheader", "web-06.ams.example.com, batch 3 · instance 5") in seen, width
        # A place to break a name is not a space.
        assert ("rowheader", "web-06.ams.example.com") in seen, width
        assert {("table", "Time line"), ("table", "Hosts")} <= set(seen), width
        assert sum(role == "columnheader" and name == "switch" for role, name in seen) == 1, width
        lanes = [name for role, name in seen if role in {"image", "img"}]
        assert sum(name.startswith("look ") and "; build " in name for name in lanes) == 12, width
        assert any(name.endswith("s failed; finish 0.7 s") for name in lanes), width
