"""Reading unit files: systemd.syntax(7)."""

from __future__ import annotations

import pytest

from kloros_infra.supervisor.unit_file import UnitFile, parse_unit_file


def parsed(text: str) -> UnitFile:
    file, problems = parse_unit_file("x.service", text, path="/etc/x.service")
    assert not problems
    return file


def values(file: UnitFile, section: str, key: str) -> tuple[str, ...]:
    return tuple(setting.value for setting in file.all(section, key))


def test_settings_keep_section_order_and_line() -> None:
    file = parsed("# generated\n[Unit]\nWants=a.service\n\n[Service]\nExecStart=/bin/a = b\nWants=no\n")
    assert [(s.section, s.key, s.value, s.line) for s in file.settings] == [
        ("Unit", "Wants", "a.service", 3),
        ("Service", "ExecStart", "/bin/a = b", 6),
        ("Service", "Wants", "no", 7),
    ]


def test_a_repeated_key_adds_and_an_empty_one_forgets() -> None:
    file = parsed("[Service]\nEnvironment=A=1\nEnvironment=\nEnvironment=B=2\nEnvironment=C=3\n")
    assert values(file, "Service", "Environment") == ("B=2", "C=3")
    winner = file.last("Service", "Environment")
    assert winner is not None
    assert winner.value == "C=3"
    assert file.last("Service", "Type") is None


def test_names_are_split_and_listed_once() -> None:
    file = parsed("[Unit]\nWants=a.service b.service\nRequires=b.service c.service\nWants=a.service\n")
    assert file.names("Wants", "Requires") == ("a.service", "b.service", "c.service")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("K=a \\\n  b", "a  b"),
        ("K=a \\\n# a comment in between\n  b", "a  b"),
        ("K=a \\\n\nL=2", "a"),
        ('K="ends in a backslash \\\\"', '"ends in a backslash \\\\"'),
        ("K=two \\\\\nL=2", "two \\\\"),
        ("K=three \\\\\\\nL=2", "three \\\\ L=2"),
        ("  K =  padded  ", "padded"),
        ("; comment\nK=; no comment", "; no comment"),
        ("K=a\u2028b", "a\u2028b"),
        ("K=open \\", "open"),
    ],
)
def test_continuation_comments_and_blanks(text: str, value: str) -> None:
    file = parsed(f"[S]\n{text}\n")
    assert values(file, "S", "K") == (value,)


def test_every_bad_line_is_reported_with_its_place() -> None:
    _, problems = parse_unit_file("x.service", "A=1\n[Unit]\nnonsense\n=2\n", path="/etc/x.service")
    assert [(p.code, str(p.span)) for p in problems] == [
        ("KI603", "/etc/x.service:1:1"),
        ("KI603", "/etc/x.service:3:1"),
        ("KI603", "/etc/x.service:4:1"),
    ]
