"""Lockout files as people write and spoil them, and a card that is given up while it is used."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kloros_infra.ir.layout import Layout
from tests.faults.asking import Ending, Kind, a_chat, a_web, ask
from tests.system.card_site import BEST, CODE, LESS, SHARED, CardSite, a_card_site
from tests.system.cards import PretendedCards
from tests.system.installed import wait_until

Say = Callable[[str], None]

pytestmark = [pytest.mark.system, pytest.mark.real_model]

SOON_S = 30.0
NOT_READ, NOT_UNDERSTOOD = "KI900", "KI901"
STREAM_TOKENS = 900
FREE, HELD = 0, 3
"""How `gpu release` ends."""


@pytest.fixture(scope="module")
def installed(with_cards: PretendedCards, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CardSite]:
    with a_card_site(with_cards, tmp_path_factory.mktemp("site")) as one:
        yield one


@pytest.fixture
def site(installed: CardSite) -> CardSite:
    installed.as_at_first()
    return installed


def until(site: CardSite, state: str, profile: str) -> None:
    """Wait until the card stands so, and the profile is that."""
    try:
        wait_until(lambda: (site.state_of("rtx5080"), site.profile) == (state, profile), timeout_s=SOON_S)
    except AssertionError as error:
        raise AssertionError(f"not {state} with {profile}: {site.profile}, {site.report()}") from error


def test_a_lockout_counts_while_it_stands_and_what_it_says_is_shown(site: CardSite) -> None:
    site.path(Layout().lockout_file).write_text(json.dumps({"lockout_gpus": ["0"], "reason": "gaming"}))
    until(site, "locked", LESS)
    assert "gaming" in site.reported("rtx5080")["reason"]
    wait_until(lambda: not site.is_active(CODE), timeout_s=SOON_S)
    assert site.is_active(SHARED)

    site.path(Layout().lockout_file).unlink()
    until(site, "eligible", BEST)


def test_a_lockout_ends_when_it_says(site: CardSite) -> None:
    ends_at = time.time() + 3
    site.lock_out("game", until_epoch_s=ends_at)
    until(site, "locked", LESS)
    until(site, "eligible", BEST)
    assert time.time() >= ends_at
    assert site.path(f"{Layout().lockout_folder}/game.json").exists()


def test_a_lockout_that_has_expired_is_none(site: CardSite) -> None:
    site.lock_out("game", until_epoch_s=time.time() - 60)
    site.write_lockout("other", "{")
    # The other file tells that both were read.
    wait_until(lambda: NOT_UNDERSTOOD in site.problems(), timeout_s=SOON_S)
    assert (site.state_of("rtx5080"), site.profile) == ("eligible", BEST)


def test_a_malformed_lockout_keeps_the_last_good_one_and_warns(site: CardSite) -> None:
    site.lock_out("game")
    until(site, "locked", LESS)
    site.write_lockout("game", '{"lockout_gpus": [')
    wait_until(lambda: NOT_UNDERSTOOD in site.problems(), timeout_s=SOON_S)
    assert (site.state_of("rtx5080"), site.profile) == ("locked", LESS)
    site.write_lockout("game", '{"lockout_gpus": []}')
    until(site, "eligible", BEST)
    assert site.problems() == []


def as_a_folder(file: Path) -> None:
    """Put a folder in its place in one step: while nothing is there, nothing is locked out."""
    fresh = file.with_suffix(".new")
    fresh.symlink_to("/etc")
    fresh.replace(file)


def without_permission(file: Path) -> None:
    """Take all rights away: the agent is root without the capability to pass over them."""
    file.chmod(0)


@pytest.mark.parametrize("spoil", [as_a_folder, without_permission])
def test_an_unreadable_lockout_keeps_the_last_good_one_and_warns(
    site: CardSite, spoil: Callable[[Path], object]
) -> None:
    file = site.path(Layout().lockout_file)
    file.write_text(json.dumps({"lockout_gpus": ["rtx5080"]}))
    until(site, "locked", LESS)
    spoil(file)
    wait_until(lambda: NOT_READ in site.problems(), timeout_s=SOON_S)
    until(site, "locked", LESS)
    site.clear_policy()
    until(site, "eligible", BEST)
    assert site.problems() == []


def test_a_game_takes_the_card_by_the_memory_that_it_uses(site: CardSite, say: Say) -> None:
    site.game_takes(0, pid=1)
    begun = time.monotonic()
    site.game_takes(8000, pid=1)
    until(site, "taken", LESS)
    say(f"left {time.monotonic() - begun:.1f} s after a game has taken 8 GB: looked for every 2 s, to be so for 2 s")
    (holder,) = site.reported("rtx5080")["holders"]
    assert (holder["pid"], holder["held_mib"]) == (1, 8000)


def test_a_card_that_the_driver_reports_as_failed_is_in_quarantine_until_it_is_cleared(site: CardSite) -> None:
    site.cards.report_fault(site.cards.gaming, 31)
    site.cards.report_fault(site.cards.gaming, 79)
    until(site, "quarantined", LESS)
    assert "XID 79" in site.reported("rtx5080")["reason"]
    site.kloros_infra("gpu", "clear", "rtx5080")
    until(site, "eligible", BEST)


def test_a_card_is_given_up_once_its_stream_has_ended_and_taken_back(site: CardSite, say: Say) -> None:
    async def story() -> tuple[Ending, float, str]:
        begun = asyncio.Event()
        async with a_web(site.bridge) as web:
            asked = asyncio.create_task(ask(web, a_chat(300, is_stream=True, model="code"), begun))
            await asyncio.wait_for(begun.wait(), 20)
            started = time.monotonic()
            words = ("gpu", "release", "rtx5080", "--wait", "20s", "--reason", "gaming")
            released = await asyncio.to_thread(site.kloros_infra, *words, check=False)
            assert released.returncode == FREE, released.stdout + released.stderr
            took_s = time.monotonic() - started
            assert asked.done(), "it is released while a stream uses it"
            return await asked, took_s, released.stdout

    ending, took_s, said = asyncio.run(story())
    say(f"released after {took_s:.2f} s: {said}")
    assert (ending.kind, ending.tokens) == (Kind.ANSWERED, 300)
    assert not site.is_active(CODE)
    assert site.state_of("rtx5080") == "locked"
    site.kloros_infra("gpu", "return", "rtx5080")
    until(site, "eligible", BEST)


def test_a_stream_that_is_longer_than_the_wait_goes_on_elsewhere(site: CardSite, say: Say) -> None:
    async def story() -> tuple[Ending, float]:
        begun = asyncio.Event()
        async with a_web(site.bridge) as web:
            asked = asyncio.create_task(ask(web, a_chat(STREAM_TOKENS, is_stream=True), begun))
            await asyncio.wait_for(begun.wait(), 20)
            started = time.monotonic()
            await asyncio.to_thread(site.kloros_infra, "gpu", "release", "rtx5080", "--wait", "1s")
            return await asked, time.monotonic() - started

    ending, took_s = asyncio.run(story())
    said = ending.data.count(b'"delta":{"content":"')
    say(f"{said} of {STREAM_TOKENS} tokens arrived within {took_s:.1f} s, the last {ending.tokens} from elsewhere")
    assert (ending.kind, said) == (Kind.ANSWERED, STREAM_TOKENS), ending.data[-600:]
    assert ending.tokens < STREAM_TOKENS


def test_who_else_holds_a_card_is_named_and_it_is_not_free(site: CardSite) -> None:
    run = site.container.run
    run(["touch", "/dev/nvidia0"])
    open_device = "import sys, time; device = open('/dev/nvidia0'); print('open', flush=True); time.sleep(600)"
    run(["systemd-run", "--unit=game", "--property=Type=exec", "/usr/bin/python3", "-c", open_device])
    pid = site.main_pid("game.service")
    gaming, other = site.cards.all
    site.cards.driver_says(gaming.nvml(900), other.nvml(), gaming.holder(pid, 900, "game"))
    try:
        released = site.kloros_infra("gpu", "release", "rtx5080", "--wait", "1s", check=False)
        assert released.returncode == HELD, released.stdout + released.stderr
        assert str(pid) in released.stdout + released.stderr
        assert "game" in released.stdout + released.stderr or "python3" in released.stdout + released.stderr
    finally:
        run(["systemctl", "stop", "game.service"])
        run(["rm", "-f", "/dev/nvidia0"])
    site.cards.driver_is_usual()
    assert site.kloros_infra("gpu", "release", "rtx5080", "--wait", "5s").returncode == FREE
