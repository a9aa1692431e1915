"""Which units a job touches, and in which order."""

from __future__ import annotations

from kloros_infra.supervisor.dependencies import conflicting, pulled_in, stopped_with, waves
from kloros_infra.supervisor.unit_file import UnitFile, parse_unit_file


def units(**texts: str) -> dict[str, UnitFile]:
    files = {f"{name}.service": f"[Unit]\n{text.replace(' ', chr(10))}\n" for name, text in texts.items()}
    return {name: parse_unit_file(name, text, path=name)[0] for name, text in files.items()}


def test_a_start_pulls_in_what_is_wanted_and_known() -> None:
    known = units(top="Wants=a.service Requires=b.service", a="Wants=c.service", b="", c="Wants=top.service", d="")
    assert pulled_in(known, "top.service") == {"top.service", "a.service", "b.service", "c.service"}
    assert pulled_in(units(top="Wants=network.target"), "top.service") == {"top.service"}


def test_a_stop_takes_along_what_is_part_of_it() -> None:
    known = units(top="", a="PartOf=top.service", b="Requires=a.service", c="BindsTo=b.service", d="Wants=top.service")
    assert stopped_with(known, "top.service") == {"top.service", "a.service", "b.service", "c.service"}


def test_a_conflict_counts_from_both_sides() -> None:
    known = units(a="Conflicts=b.service", b="", c="Conflicts=a.service", d="")
    assert conflicting(known, {"a.service"}) == {"b.service", "c.service"}
    assert conflicting(known, {"d.service"}) == frozenset()


def test_waves_follow_after_and_before() -> None:
    known = units(a="After=b.service", b="After=network.target", c="Before=b.service", d="")
    assert waves(known, known) == (("c.service", "d.service"), ("b.service",), ("a.service",))
    assert waves(known, {"a.service", "d.service"}) == (("a.service", "d.service"),)


def test_a_circle_makes_the_last_wave() -> None:
    known = units(a="After=b.service", b="After=a.service", c="")
    assert waves(known, known) == (("c.service",), ("a.service", "b.service"))


def test_a_unit_whose_file_is_gone_can_still_be_ordered() -> None:
    assert waves({}, {"gone.service"}) == (("gone.service",),)
