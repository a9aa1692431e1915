"""The files in which people lock out cards: one of fixed name, and a folder of several.

Whoever writes them may be in the middle of it, may be another user, or may have put something else there: whatever is
found is told, and nothing is waited for.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from kloros_infra.ir.card_facts import PolicyFile
from kloros_infra.ir.layout import Layout

LOCKOUT_FILE = Layout().lockout_file
LOCKOUT_FOLDER = Layout().lockout_folder
MAX_BYTES = 64 * 1024
MAX_FILES = 256


def lockout_files(root: Path = Path("/"), cards: Collection[str] = ()) -> tuple[PolicyFile, ...]:
    """Read all lockout files that there are, by name; one that vanishes meanwhile is none.

    Those that are called after one of `cards`, as commands do it, are read first: however many others there are, a
    command that locks a card out has its effect.
    """
    single = _read(root / LOCKOUT_FILE, f"/{LOCKOUT_FILE}")
    return (*([single] if single else []), *_in_folder(root / LOCKOUT_FOLDER, cards))


def _in_folder(folder: Path, cards: Collection[str]) -> Iterator[PolicyFile]:
    try:
        found = {path.name for path in folder.iterdir() if path.suffix == ".json" and not path.name.startswith(".")}
    except FileNotFoundError:
        return
    except OSError as error:
        yield PolicyFile(f"/{LOCKOUT_FOLDER}/", None, _words(error))
        return
    names = sorted(found, key=lambda name: (name.removesuffix(".json").partition("@")[0] not in cards, name))
    for name in names[:MAX_FILES]:
        if file := _read(folder / name, _shown(name)):
            yield file
    if rest := tuple(map(_shown, names[MAX_FILES:])):
        obstacle = f"there are more than {MAX_FILES} files in it, so {len(rest)} are not looked at"
        yield PolicyFile(f"/{LOCKOUT_FOLDER}", None, obstacle, rest)


def _shown(name: str) -> str:
    """Write a file's name so that it cannot steer a terminal, and no two are written alike."""
    text = os.fsencode(name).decode(errors="backslashreplace")
    plain = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return f"/{LOCKOUT_FOLDER}/{plain}"


def _read(path: Path, name: str) -> PolicyFile | None:
    try:
        data = _data(path)
        return PolicyFile(name, None, data) if isinstance(data, str) else PolicyFile(name, data.decode("utf-8-sig"))
    except FileNotFoundError:
        return PolicyFile(name, None, "it is a link to nothing") if path.is_symlink() else None
    except UnicodeDecodeError:
        return PolicyFile(name, None, "it is not UTF-8 text")
    except OSError as error:
        return PolicyFile(name, None, _words(error))


def _data(path: Path) -> bytes | str:
    """Read a regular file of modest size, or say in words why not.

    Opening a FIFO to read without O_NONBLOCK waits for a writer (fifo(7)).
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return "it is no regular file"
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    return data if len(data) <= MAX_BYTES else f"it is larger than {MAX_BYTES // 1024} KiB"


def _words(error: OSError) -> str:
    return error.strerror or str(error)
