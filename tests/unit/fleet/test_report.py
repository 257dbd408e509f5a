# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a rollout, without a browser: what it says, that hostile texts stay texts, and how it is written."""

from __future__ import annotations

import copy
import json
import os
import re
import stat
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.plugins.plugin_utils import report
from ansible_collections.pyfleet.runtime.tests.unit.fleet import report_sample

VOID = {"meta", "link", "br", "input", "col", "wbr"}
SWITCH = {"name": "switch", "started": 1.0, "ended": 2.0, "ok": True}
WITHIN_WORDS = {"wbr", "bdi"}
HOSTILE = """</script></style></pre>"'><img src=x onerror=alert(1)><script>alert(2)</script>{{ 7 * 7 }}{% raw %}&lt;\x1b[31mred"""


class Document(HTMLParser):
    """The elements of a page with their attributes, and its text; raises when tags are not balanced."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self.words.append("" if tag in WITHIN_WORDS else " ")
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        self.words.append("" if tag in WITHIN_WORDS else " ")

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in {"script", "style"}:
            self.words.append(data)

    @property
    def text(self) -> str:
        """What can be read, with single spaces."""
        return " ".join("".join(self.words).split())

    def all(self, tag: str, css_class: str = "") -> list[dict[str, str]]:
        """The attributes of some elements."""
        return [
            found
            for name, found in self.elements
            if name == tag and (not css_class or css_class in found.get("class", "").split())
        ]


def rendered(run: dict[str, Any], entries: dict[str, dict[str, Any]]) -> Document:
    return Document(report.render(run, entries))


def one(**facts: Any) -> Document:
    """A report of a run on one host."""
    return rendered({"app": "shop", "hosts": ["web"]}, {"web": {"host": "web", **facts}})


def test_the_header_says_what_was_done_by_whom_and_when() -> None:
    text = rendered(*report_sample.rollout()).text
    assert text.startswith("shop: deployment failed")
    assert "shop · Deployment ✕ failed 3 of 12 hosts failed (web-06" in text
    for words in (
        "Release b81e5570aa19 → 7f3a91c0d2e4", "Commit 90c2f6e1b7d8 → 4be1d7c09fa6", "ada@deploy-1", "2026-11-20 17:30:00 UTC",
        "1, then 34%", "0 hosts", "5c0ffee15bad",
    ):  # fmt: skip
        assert words in text
    for words in ("✕ 2 failed", "? 1 lost", "‼ 1 rollback failed", "↩ 5 rolled back", "■ 3 not switched"):
        assert words in text


def test_last_words_are_there_in_full_and_once() -> None:
    page = report.render(*report_sample.rollout())
    text = Document(page).text
    assert text.count("shop.database.PoolTimeout: no connection within 5 s") == 1
    assert "✕ failed web-06.ams.example.com, web-07.fra.example.com Health check failed:" in text
    # A traceback keeps its lines and its indentation.
    assert (
        "\n  File &#34;/srv/pyfleet/shop/releases/7f3a91c0d2e4/shop/database.py&#34;, line 41, in connect\n    raise"
        in page
    )
    assert "‼ rollback failed web-09.fra.example.com Release b81e5570aa19 does not start any more" in text


def test_a_failed_host_without_a_message_is_named_and_the_words_of_its_phase_stand_in() -> None:
    phase = {"name": "build", "started": 10.0, "ended": 12.0, "ok": False, "words": "uv sync ended with status 2"}
    assert "✕ failed web uv sync ended with status 2" in one(outcome="failed", phases=[phase]).text
    assert "✕ failed web Nothing was recorded." in one(outcome="failed").text


def test_bars_lie_on_one_axis() -> None:
    run, entries = report_sample.rollout()
    document = rendered(run, entries)
    bars = document.all("span", "bar")
    assert len(bars) == sum(len(entry["phases"]) for entry in entries.values())
    first = entries[run["hosts"][0]]["phases"][3]
    left, width = (float(number) for number in re.findall(r"([0-9.]+)%", bars[3]["style"]))
    length = run["ended"] - run["started"]
    assert left == pytest.approx(100 * (first["started"] - run["started"]) / length, abs=0.01)
    assert width == pytest.approx(100 * (first["ended"] - first["started"]) / length, abs=0.01)
    for bar in bars:
        left, width = (float(number) for number in re.findall(r"([0-9.]+)%", bar["style"]))
        assert 0 <= left <= left + width <= 100.001
    assert sum("failed" in bar["class"].split() for bar in bars) == 4
    assert bars[3]["title"].splitlines()[0] == "build: installs dependencies, runs build hooks"
    assert re.search(r"^17:30:\d\d – 17:30:\d\d, \d+ s$", bars[3]["title"], re.MULTILINE)


def test_a_phase_that_has_not_ended_reaches_to_the_end_and_counts_for_nothing() -> None:
    phases = [
        {"name": "look", "started": 0.0, "ended": 5.0, "ok": True},
        {"name": "switch", "started": 5.0, "ended": None, "ok": None},
    ]
    document = rendered({"started": 0.0, "ended": 20.0, "hosts": ["web"]}, {"web": {"phases": phases}})
    (bar,) = document.all("span", "open")
    assert bar["style"] == "left: 25.0%; width: 75.0%"
    assert "not ended" in bar["title"]
    assert "look 5.0 s; switch 15 s not ended" in [lane.get("aria-label") for lane in document.all("div", "lane")]


@pytest.mark.parametrize(
    ("serial", "sizes"),
    [
        ([1, "50%"], [1, 6, 5]),
        ([1, "34%"], [1, 4, 4, 3]),
        ("25%", [3, 3, 3, 3]),
        (5, [5, 5, 2]),
        ("5", [5, 5, 2]),
        (["1%"], [1] * 12),
        ([20], [12]),
        ([2, "100%"], [2, 10]),
        ([], [12]),
        (None, [12]),
        (0, [12]),
        ("-3", [12]),
        ("nonsense", [12]),
        ("nan%", [12]),
        ([3, None], [3, 9]),
    ],
)
def test_batches_are_those_of_ansible(serial: object, sizes: list[int]) -> None:
    hosts = [f"web{number}" for number in range(12)]
    made = report.batches(hosts, serial)
    assert [len(batch) for batch in made] == sizes
    assert [host for batch in made for host in batch] == hosts


def test_batches_equal_ansibles_own() -> None:
    from ansible.utils.helpers import pct_to_int

    for hosts in (1, 2, 3, 7, 12, 99, 200):
        for share in ("1%", "10%", "33%", "34%", "50%", "99%", "100%"):
            assert len(report.batches(list(range(hosts)), share)[0]) == pct_to_int(share, hosts)


def test_canary_and_batches_are_visible_and_batches_of_one_size_have_no_canary() -> None:
    text = rendered(*report_sample.rollout()).text
    assert re.search(
        r"Canary 1 host, [0-9.]+ s .*Batch 2 4 hosts, [0-9.]+ s .*Batch 3 4 hosts, .*Batch 4 3 hosts ", text
    )
    run = {"hosts": ["a", "b"], "serial": 1}
    phases = [{"name": "switch", "started": 1.0, "ended": 2.0, "ok": True}]
    text = rendered(run, {"a": {"phases": phases}, "b": {"phases": phases}}).text
    assert "Batch 1 1 host" in text
    assert "Canary" not in text


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        ("switched", "old → new version 1.0 → 2.0 commit aaa → bbb"),
        ("unchanged", "old kept version 1.0 kept commit aaa kept"),
        ("failed", "old kept version 1.0 kept commit aaa kept"),
        ("rolled_back", "old again version 1.0 again commit aaa again"),
        ("rollback_failed", "old → unknown version 1.0 → unknown commit aaa → unknown"),
        ("lost", "old → unknown version 1.0 → unknown commit aaa → unknown"),
    ],
)
def test_what_serves_now_follows_from_the_outcome(outcome: str, expected: str) -> None:
    facts = {
        "before": "old",
        "release": "new",
        "before_version": "1.0",
        "version": "2.0",
        "before_commit": "aaa",
        "commit": "bbb",
    }
    assert expected in one(outcome=outcome, **facts).text


def test_what_failed_after_its_switch_serves_the_new_release() -> None:
    facts = {"before": "old", "release": "new", "serves": "new", "before_commit": "aaa", "commit": "bbb"}
    assert (
        "old → new commit aaa → bbb" in one(outcome="failed", message="The task after the switch failed.", **facts).text
    )


def test_an_idle_host_keeps_what_it_has() -> None:
    text = rendered({"hosts": ["web"], "ended": 5.0}, {"web": {"action": "none", "current": "old"}}).text
    assert "= unchanged old kept" in text
    assert "= nothing to do" in text


@pytest.mark.parametrize(
    ("run", "expected"),
    [({"stopped": "1 host failed."}, "■ not switched"), ({"ended": 9.0}, "? lost"), ({}, "… not finished")],
)
def test_a_host_that_had_no_turn(run: dict[str, Any], expected: str) -> None:
    assert expected in rendered({"hosts": ["web"], **run}, {"web": {"action": "switch", "before": "old"}}).text


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        ("succeeded", "✓ succeeded"),
        ("unchanged", "= nothing to do"),
        ("partial", "◐ succeeded in part"),
        ("rolled_back", "↩ failed, rolled back"),
        ("failed", "✕ failed"),
    ],
)
def test_the_controllers_outcome_is_the_one_shown(outcome: str, expected: str) -> None:
    document = rendered(
        {"app": "shop", "what": "deploy", "hosts": ["web"], "outcome": outcome}, {"web": {"outcome": "switched"}}
    )
    assert f"shop · Deployment {expected}" in document.text


def test_batches_as_they_ran_win_over_the_numbers() -> None:
    run = {"hosts": ["a", "b", "c"], "serial": [1, 1, 1]}
    text = rendered(run, {name: {"batch": "a" if name == "a" else "b", "phases": [SWITCH]} for name in "abc"}).text
    assert re.search(r"Canary 1 host.* a .*Batch 2 2 hosts.* b .* c ", text)


def test_a_first_deployment_comes_from_nothing() -> None:
    text = one(outcome="switched", before="", release="new", commit="bbb").text
    assert "none → new commit none → bbb" in text
    assert "✓ succeeded" in text


def test_seconds_gap_answers_and_warnings_of_a_host_are_in_its_row() -> None:
    phases = [
        {"name": "switch", "started": 1.0, "ended": 3.5, "ok": True},
        {"name": "switch", "started": 4.0, "ended": 5.0, "ok": True},
        {"name": "teleport", "started": 5.0, "ended": 205.0, "ok": True},
    ]
    log = [
        "Response from GET /a is 503",
        "Response from GET /a is 200",
        "Response from GET /b is refused",
        "CC_RUN_SUCCEEDED_HOOK:",
    ]
    document = one(
        outcome="switched", phases=phases, gap_seconds=1.25, log=log, warnings=["Mind the gap."], message="done"
    )
    assert "switch teleport all, s gap, s Health, log, warnings" in document.text
    assert "3.5 200 204 1.2 200 /a refused /b done" in document.text
    assert "log, 4 lines Response from GET /a is 503 Response" in document.text
    assert document.text.count("Mind the gap.") == 2  # in the row, and above with all of its hosts
    assert "p-other" in document.all("span", "bar")[2]["class"]


def test_hardly_any_facts_are_enough() -> None:
    text = rendered(*report_sample.bare()).text
    assert "? lost gone The connection to the host was lost" in text
    assert "nothing was recorded" in text
    assert "No phase of any host was recorded." in text
    assert "… not finished" in rendered({}, {}).text


def test_facts_of_any_kind_do_not_stop_the_report() -> None:
    junk: list[Any] = [
        None,
        "",
        "x",
        0,
        -1,
        1e300,
        float("nan"),
        float("inf"),
        True,
        [],
        [None],
        {},
        {"a": [1]},
        ["x", 1],
        b"\xff",
    ]
    names = (
        "phases",
        "outcome",
        "log",
        "warnings",
        "message",
        "release",
        "before",
        "gap_seconds",
        "instance_number",
        "kind",
        "serves",
        "batch",
        "current",
        "action",
    )
    run_names = (
        "app",
        "what",
        "hosts",
        "serial",
        "budget",
        "started",
        "ended",
        "holder",
        "outcome",
        "message",
        "release",
    )
    for value in junk:
        phases = [
            value,
            {"name": value, "started": value, "ended": value},
            {"name": value, "started": 1, "ended": value, "ok": value},
        ]
        entries = {"a": dict.fromkeys(names, value), "b": {"phases": phases}}
        assert rendered(dict.fromkeys(run_names, value), entries).all("table", "hosts")
        report.render_json(dict.fromkeys(run_names, value), entries)


def test_hostile_texts_stay_texts() -> None:
    def poisoned(value: Any) -> Any:
        if isinstance(value, str):
            return HOSTILE
        if isinstance(value, list):
            return [poisoned(item) for item in value]
        return {name: poisoned(item) for name, item in value.items()} if isinstance(value, dict) else value

    run, entries = report_sample.rollout()
    clean = [*rendered(run, entries).elements, *rendered(*report_sample.bare()).elements]
    allowed = {(tag, name) for tag, attributes in clean for name in attributes}
    names = [f"{name}{HOSTILE}" for name in run["hosts"]]
    hostile = {name: poisoned(entry) for name, entry in zip(names, entries.values(), strict=True)}
    # As much of it as possible is shown only when the outcome is a known one.
    for number, entry in enumerate(copy.deepcopy(hostile).values()):
        hostile[names[number]] = {**entry, "outcome": ["failed", "switched", "rolled_back", HOSTILE][number % 4]}
    page = report.render({**poisoned(run), "hosts": names}, hostile)
    document = Document(page)
    assert {(tag, name) for tag, attributes in document.elements for name in attributes} <= allowed
    assert {tag for tag, _attributes in document.elements} <= {tag for tag, _attributes in clean}
    assert len(document.all("script")) == 1
    assert page.count("</script>") == page.count("</style>") == 1
    assert "onerror=alert(1)>" in document.text
    assert "{{ 7 * 7 }}{% raw %}" in document.text
    assert "\x1b" not in page
    assert "[31m" not in page
    # Nothing of others is in the one place that escaping does not protect.
    assert all(
        set(found["style"]) <= set("left: width; --step %.0123456789")
        for _tag, found in document.elements
        if "style" in found
    )
    assert not [found for _tag, found in document.elements if "alert" in found.get("class", "")]


def test_characters_that_turn_text_around_are_shown_as_such() -> None:
    page = report.render({"app": "shop\u202egnp.exe"}, {"web\u2066\ud800\x00": {"message": "a\tb\nc\x07"}})
    assert not set("\u202e\u2066\ud800\x00\x07") & set(page)
    assert "shop\N{REPLACEMENT CHARACTER}gnp.exe" in page
    page.encode()


def test_the_page_needs_nothing_else() -> None:
    page = report.render(*report_sample.rollout())
    document = Document(page)
    assert not re.search(r"https?:|url\(|@import|//[a-z]", page)
    assert not [found for _tag, found in document.elements if "src" in found]
    assert [found["href"] for _tag, found in document.elements if "href" in found] == ["data:,"]
    (policy,) = [
        found["content"] for found in document.all("meta") if found.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.split()[:2] == ["default-src", "'none';"]
    assert "unsafe-inline" not in re.search(r"script-src ([^;]*)", policy)[1]  # type: ignore[index]


def test_tables_have_heads_and_lanes_have_words() -> None:
    document = rendered(*report_sample.rollout())
    assert all(found.get("scope") in {"col", "row", "rowgroup"} for found in document.all("th"))
    # Twelve hosts, four batches of which three switched, and the axis, which says the same again.
    lanes = document.all("div", "lane")
    assert len(lanes) == 12 + 3 + 1
    assert sum(bool(lane.get("aria-label")) and lane.get("role") == "img" for lane in lanes) == 15
    assert ("html", {"lang": "en"}) in document.elements


def test_two_hundred_hosts_are_one_file_of_reasonable_size() -> None:
    page = report.render(*report_sample.rollout(200))
    assert len(Document(page).all("tr")) == 2 * 200 + 4 + 2
    assert len(page) < 2_000_000


def test_render_changes_nothing_and_gives_the_same_again() -> None:
    run, entries = report_sample.rollout()
    before = copy.deepcopy((run, entries))
    assert report.render(run, entries) == report.render(run, entries)
    assert (run, entries) == before


def test_json_is_the_journals_data() -> None:
    run, entries = report_sample.rollout()
    assert json.loads(report.render_json(run, entries)) == {"run": run, "hosts": entries}


def test_write_puts_both_files_into_a_new_folder(tmp_path: Path) -> None:
    run, entries = report_sample.rollout()
    mask = os.umask(0o027)
    try:
        warning = report.write(f"{tmp_path}/reports/{{app}}/{{time}}-{{release}}.{{other}}.html", run, entries)
    finally:
        os.umask(mask)
    assert warning == ""
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    stem = tmp_path / "reports/shop/20261120T173000Z-7f3a91c0d2e4.{other}"
    assert files == [Path(f"{stem}.html"), Path(f"{stem}.json")]
    assert files[0].read_text(encoding="utf-8") == report.render(run, entries)
    assert json.loads(files[1].read_text()) == {"run": run, "hosts": entries}
    assert [stat.S_IMODE(path.stat().st_mode) for path in files] == [0o640, 0o640]  # 0644, less the umask


def test_write_replaces_an_older_report(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    with path.open() as reader:
        assert report.write(str(path), *report_sample.bare()) == ""
        assert reader.read() == "old"  # whoever reads the old one is not disturbed: the new one is another file
    assert path.read_text().startswith("<!DOCTYPE html>")


def test_the_two_files_have_two_names(tmp_path: Path) -> None:
    assert report.write(f"{tmp_path}/report.json", *report_sample.bare()) == ""
    assert report.write(f"{tmp_path}/plain", *report_sample.bare()) == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "plain",
        "plain.json",
        "report.json",
        "report.json.json",
    ]
    assert (tmp_path / "report.json").read_text().startswith("<!DOCTYPE html>")


def test_placeholders_cannot_leave_the_folder(tmp_path: Path) -> None:
    run = {"app": "../../etc/x y", "release": "..", "started": "never"}
    assert report.destination("/reports/{app}/{release}/{time}", run, {}) == Path(
        "/reports/_.._etc_x_y/unknown/unknown"
    )
    assert report.destination("~/r.html", {}, {}) == Path.home() / "r.html"


@pytest.mark.parametrize(
    "path", ["{folder}", "{folder}/file/report.html", "{folder}/\0.html", "/proc/nothing/report.html", ""]
)
def test_a_report_that_cannot_be_written_is_a_warning(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").write_text("in the way")
    warning = report.write(path.replace("{folder}", str(tmp_path)), *report_sample.bare())
    assert "app_report" in warning
    assert "not written" in warning
    assert "Next step" in warning
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_fault_in_the_report_is_a_warning_and_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> str:
        raise KeyError("unexpected")

    monkeypatch.setattr(report, "_view", broken)
    assert "KeyError: 'unexpected'" in report.write(f"{tmp_path}/report.html", *report_sample.bare())
    assert not list(tmp_path.iterdir())
