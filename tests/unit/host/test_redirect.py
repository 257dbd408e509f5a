# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The redirect table: pure parts, and the whole against a stand-in for nft that keeps a table."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from ansible_collections.pyfleet.runtime.plugins.module_utils.redirect import (
    NOTHING,
    PROBE_MARK,
    Elements,
    Redirect,
    RedirectError,
    parse_elements,
    parse_listing,
    render_elements,
    render_table,
    transition,
)


class StandInNft:
    """Understands exactly the commands that Redirect sends."""

    def __init__(self, config: Path) -> None:
        self.config = config
        self.table: Elements | None = None
        self.transactions: list[str] = []
        self.refuse = False

    def __call__(self, argv: Sequence[str], stdin: str) -> tuple[int, str, str]:
        if "list" in argv:
            if self.table is None:
                return 1, "", "Error: No such file or directory"
            listing = [
                {"map": {"name": "public", "elem": [list(pair) for pair in self.table.public.items()]}},
                {"set": {"name": "internal", "elem": sorted(self.table.internal)}},
            ]
            return 0, json.dumps({"nftables": listing}), ""
        if self.refuse:
            return 1, "", "Error: Operation not permitted"
        if argv[-1] != "-":
            self.table = Elements({}, frozenset())
            stdin = "".join(path.read_text() for path in sorted((self.config / "redirects").glob("*.nft")))
        assert self.table is not None
        public, internal = dict(self.table.public), set(self.table.internal)
        for verb, kind, body in re.findall(
            r"^(add|delete) element inet pyfleet (\w+) \{ (.*) \}$", stdin, re.MULTILINE
        ):
            for entry in body.split(", "):
                if kind == "internal":
                    (internal.add if verb == "add" else internal.remove)(int(entry))
                elif verb == "delete":
                    del public[int(entry)]
                else:
                    outer, inner = (int(part) for part in entry.split(" : "))
                    assert outer not in public, "nft refuses a second value for a key"
                    public[outer] = inner
        self.table = Elements(public, frozenset(internal))
        self.transactions.append(stdin)
        return 0, "", ""


@pytest.fixture(name="nft")
def _nft(tmp_path: Path) -> StandInNft:
    (tmp_path / "nftables.nft").write_text(render_table(config=str(tmp_path)))
    return StandInNft(tmp_path)


@pytest.fixture(name="redirect")
def _redirect(tmp_path: Path, nft: StandInNft) -> Redirect:
    return Redirect(config=str(tmp_path), run=nft)


def test_d2_flip_is_one_transaction(redirect: Redirect, nft: StandInNft) -> None:
    assert redirect.flip("shop", {8080: 18080}, [18080, 28080])
    nft.transactions.clear()
    assert redirect.flip("shop", {8080: 28080}, [18080, 28080])
    assert nft.transactions == [
        "delete element inet pyfleet public { 8080 }\nadd element inet pyfleet public { 8080 : 28080 }\n"
    ]
    assert redirect.current() == {8080: 28080}


def test_d2_flip_survives_a_reboot(redirect: Redirect, nft: StandInNft) -> None:
    redirect.flip("shop", {8080: 28080}, [18080, 28080])
    nft.table = None
    assert redirect.ensure_table()
    assert redirect.current() == {8080: 28080}
    assert redirect.internal() == {18080, 28080}
    assert not redirect.ensure_table()


def test_flip_twice_changes_nothing(redirect: Redirect, nft: StandInNft) -> None:
    redirect.flip("shop", {8080: 18080}, [18080])
    nft.transactions.clear()
    assert not redirect.flip("shop", {8080: 18080}, [18080])
    assert nft.transactions == []


def test_d2_refused_flip_leaves_file_and_table(redirect: Redirect, nft: StandInNft, tmp_path: Path) -> None:
    redirect.flip("shop", {8080: 18080}, [18080])
    nft.refuse = True
    with pytest.raises(RedirectError, match="Operation not permitted"):
        redirect.flip("shop", {8080: 28080}, [28080])
    assert redirect.current() == {8080: 18080}
    assert parse_elements((tmp_path / "redirects/shop.nft").read_text()).public == {8080: 18080}
    assert os.listdir(tmp_path / "redirects") == ["shop.nft"]


def test_clear_leaves_the_other_applications(redirect: Redirect) -> None:
    redirect.flip("shop", {8080: 18080}, [18080, 9000])
    redirect.flip("blog", {8090: 18090}, [18090, 9000])
    assert redirect.clear("shop")
    assert not redirect.clear("shop")
    assert redirect.current() == {8090: 18090}
    assert redirect.internal() == {18090, 9000}


def test_public_port_of_another_application_is_refused(redirect: Redirect) -> None:
    redirect.flip("shop", {8080: 18080})
    with pytest.raises(RedirectError, match=r"public port 8080 belongs to the application shop.*app_public_port"):
        redirect.flip("blog", {8080: 18090})
    assert redirect.current() == {8080: 18080}


def test_in_place_needs_no_redirect_but_hides_its_inner_ports(redirect: Redirect) -> None:
    redirect.flip("shop", {8080: 18080}, [18080])
    assert redirect.flip("shop", {8080: 8080}, [9000])
    assert redirect.current() == {}
    assert redirect.internal() == {9000}


def test_clear_without_a_table_is_no_error(redirect: Redirect) -> None:
    assert not redirect.clear("shop")


def test_missing_frame_names_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(RedirectError, match=r"provision\.yml"):
        Redirect(config=str(tmp_path), run=StandInNft(tmp_path)).flip("shop", {8080: 18080})


def test_app_name_cannot_leave_the_directory(redirect: Redirect) -> None:
    with pytest.raises(RedirectError, match="not an application name"):
        redirect.flip("../shop", {8080: 18080})


def test_elements_text_round_trip() -> None:
    elements = Elements({8080: 18080, 443: 8443}, frozenset({18080, 28080}))
    assert parse_elements(render_elements(elements)) == elements
    assert render_elements(NOTHING) == ""


def test_transition_repairs_a_flushed_table() -> None:
    wanted = Elements({8080: 18080}, frozenset({18080}))
    assert transition(NOTHING, wanted, wanted) == render_elements(wanted)
    assert transition(wanted, wanted, wanted) == ""


def test_listing_of_an_empty_table() -> None:
    assert (
        parse_listing('{"nftables": [{"metainfo": {}}, {"map": {"name": "public"}}, {"set": {"name": "internal"}}]}')
        == NOTHING
    )


def test_frame_lets_marked_probes_by_and_replaces_only_its_own_table() -> None:
    frame = render_table({8080: 18080}, [18080])
    assert f"meta mark 0x{PROBE_MARK:x} accept" in frame
    assert "elements = { 8080 : 18080 }" in frame
    assert "flush" not in frame
    assert set(re.findall(r"table inet \w+", frame)) == {"table inet pyfleet"}


def test_f12_internal_ports_answer_through_the_redirect_only() -> None:
    rules = [line.strip() for line in render_table().splitlines() if "@internal" in line or "iif" in line]
    before_the_redirect = "tcp dport @internal accept"  # where an inner port leads is nobody else's business
    assert rules == [
        before_the_redirect,
        'iif "lo" accept',
        "tcp dport @internal ct status dnat accept",
        "tcp dport @internal drop",
    ]
