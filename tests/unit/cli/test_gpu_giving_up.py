"""What `gpu release` says of what came of it."""

from __future__ import annotations

from dataclasses import replace

from kloros_infra.cli.gpu_giving_up import Release, release_data, release_lines
from kloros_infra.cli.gpu_release import CardHolder, GivenUp, Holders
from kloros_infra.ir.cards_report import CardsReport
from tests.gpu_sites import CODE_MAX, CODE_MID

MAX = CardsReport(profile="max", reason="'max' has its cards.", since_epoch_s=0.0)
MID = CardsReport(profile="mid", reason="'max' lacks rtx5080.", since_epoch_s=0.0)
FREE = Release("rtx5080", GivenUp((CODE_MAX,), (), (), Holders(), 1.25), MAX, MID)
GAME = CardHolder(4711, "game.exe", "ada", 3 * 10**9)
OURS = CardHolder(99, "llama-server", "kloros", None, CODE_MID)
HELD = replace(FREE, given_up=GivenUp((), (CODE_MAX,), (), Holders((OURS, GAME), "some are hidden"), 4.0), before=MID)


def test_a_free_card_is_said_to_be_with_what_was_done() -> None:
    assert list(release_lines(FREE)) == [
        "The profile is mid now, it was max: 'max' lacks rtx5080.",
        f"Finished what it had: {CODE_MAX}.",
        "rtx5080 is free, after 1.2 s. `kloros-infra gpu return rtx5080` takes it back.",
    ]
    assert FREE.exit_code == 0


def test_who_has_the_card_is_named_one_a_line() -> None:
    assert list(release_lines(HELD)) == [
        "The profile is mid: 'max' lacks rtx5080.",
        f"Stopped: {CODE_MAX}.",
        "rtx5080 is not free. Nothing of ours starts on it any more, but it is used by:",
        f"  process 99, llama-server of kloros ({CODE_MID}, which works on other GPUs), which has it open",
        "  process 4711, game.exe of ada, with 3.0 GB",
        "There may be more: some are hidden.",
        "End them and run the command again, or take the GPU back: `kloros-infra gpu return rtx5080`.",
    ]
    assert HELD.exit_code == 3


def test_programs_get_all_of_it() -> None:
    data = release_data(HELD)
    assert (data["version"], data["card"], data["is_free"], data["took_s"]) == (1, "rtx5080", False, 4.0)
    assert data["holders"][1] == {
        "pid": 4711, "name": "game.exe", "user": "ada", "held_bytes": 3 * 10**9, "unit": "",
    }  # fmt: skip
    assert (data["finished"], data["stopped"], data["unknown"]) == ([], [CODE_MAX], "some are hidden")
    assert (data["profile"], data["reason"]) == ("mid", "'max' lacks rtx5080.")
