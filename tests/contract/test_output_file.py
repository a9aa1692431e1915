"""Files that a person names: whole or not at all, and nothing but a file is ever replaced."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kloros_infra.adapters.output_file import is_stream, write_output


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    file = tmp_path / "new" / "file"
    for text in ("one\n", "two\n"):
        write_output(file, text, mode=0o600)
        assert file.read_text() == text
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["file"]


def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    file, link = tmp_path / "elsewhere" / "file", tmp_path / "link"
    file.parent.mkdir()
    link.symlink_to(file)
    for text in ("new\n", "replaced\n"):
        write_output(link, text)
        assert link.is_symlink()
        assert file.read_text() == text
    assert not is_stream(link)


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert is_stream(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_output(pipe, "text\n")
    reader.join(10)
    assert read == ["text\n"]
    assert pipe.is_fifo()


def test_a_device_stays_a_device(tmp_path: Path) -> None:
    null = tmp_path / "null"
    null.symlink_to("/dev/null")
    write_output(null, "text\n")
    assert null.is_symlink()
    assert Path("/dev/null").is_char_device()
    assert is_stream(null)


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_an_open_file_goes_on_to_be_written_to(tmp_path: Path, name: str) -> None:
    words = "from pathlib import Path; from kloros_infra.adapters.output_file import write_output as w"
    code = f"{words}; print('before', flush=True); w(Path({name!r}), 'text\\n'); print('after')"
    with (tmp_path / "out").open("w") as out:
        subprocess.run([sys.executable, "-c", code], check=True, stdout=out)
    assert (tmp_path / "out").read_text() == "before\ntext\nafter\n"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        write_output(tmp_path, "text\n")
