"""Only its owner may ask a root's supervisor; everybody else is told so, and not refused by the system."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kloros_infra.adapters.processes import may_be_asked
from kloros_infra.ir.layout import Layout
from tests.needed import need


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for parent in (tmp_path, *tmp_path.parents[:3]):
        parent.chmod(0o755)
    return tmp_path


def test_a_root_without_a_supervisor_may_be_asked(root: Path) -> None:
    assert may_be_asked(root)


def test_the_folder_of_another_user_says_no(root: Path) -> None:
    folder = root / Layout().run
    folder.mkdir(parents=True)
    folder.chmod(0o700)
    assert may_be_asked(root)
    need(os.geteuid() == 0, "root, to become somebody else")
    os.seteuid(65534)
    try:
        assert not may_be_asked(root)
    finally:
        os.seteuid(0)
