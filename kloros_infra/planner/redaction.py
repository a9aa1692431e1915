"""What must not be shown of a file or a command line: values of settings, variables and options named like secrets.

Only names tell what is a secret, so a value under another name is shown. Secrets belong into files that
LoadCredential= names; this is for those that somebody wrote elsewhere by hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

HIDDEN_VALUE = "(sensitive value)"

# `…_KEY_FILE` only names a file, and `context_tokens` counts some.
SECRET_NAME = re.compile(
    r"(?:^|[_.-]|api|auth)(?:(?:key|secret|password|passwd|passphrase|credential)s?|token)$"
    r"|(?:api|auth|access|bearer)[_.-]?tokens$"
    r"|(?:^|\.)SetCredential(?:Encrypted)?$",
    re.IGNORECASE,
)
# systemd.syntax(7) and systemd.exec(5): a setting, a variable or a line of a shell; also one that is commented out.
ASSIGNMENT = re.compile(r"([#;\s]*(?:export\s+)?([\w.-]+)\s*=\s*)(.*)", re.DOTALL)
# JSON and YAML: a quoted or plain name, a colon, and what follows it up to the end of the value.
MEMBER = re.compile(r"""(["']?([\w.-]+)["']?\s*:(?:\s+|(?=["'])))("(?:[^"\\]|\\.)*"|'[^']*'|[^\s,}]+)""")
# A quotation may begin inside a word, as in --api-key="…"; one that is not closed goes on to the end of the line.
WORD = re.compile(r"""(?:"(?:[^"\\]|\\.)*(?:"|$)|'[^']*(?:'|$)|\\.|[^\s"'\\]|\\$)+""")
BEARER = re.compile(r"(\bBearer\s+)[^\s\"']+", re.IGNORECASE)
ACCOUNT = re.compile(r"(://[^/\s:@]*:)[^/\s@]+(?=@)")


def is_secret(name: str) -> bool:
    """Say whether a setting's value must not be shown."""
    return bool(SECRET_NAME.search(name))


def redacted_value(name: str, value: str) -> str:
    """Write a setting's value without what must not be shown; one that has several lines may hold several values."""
    return HIDDEN_VALUE if is_secret(name) else "\n".join(redacted_lines(value.split("\n")))


def redacted_lines(lines: Iterable[str]) -> Iterator[str]:
    """Write lines of a file without what must not be shown; a value may go on in the next line."""
    goes_on = ""
    for line in lines:
        shown, goes_on = _line(line, goes_on)
        yield shown


def redacted_words(words: Sequence[str]) -> tuple[str, ...]:
    """Write the words of a command line without what must not be shown."""
    shown: list[str] = []
    is_next = False
    for word in words:
        shown.append(HIDDEN_VALUE if is_next else _anywhere(_assigned(word)))
        is_next = not is_next and _is_option(word)
    return tuple(shown)


def _line(line: str, goes_on: str) -> tuple[str, str]:
    """Write one line; `goes_on` is what a value that is not to be shown ends with: a quote, or a word's end."""
    if goes_on in ("'", '"'):
        _, quote, rest = line.partition(goes_on)
        return (f"{HIDDEN_VALUE}{rest}", "") if quote else (HIDDEN_VALUE, goes_on)
    found = ASSIGNMENT.fullmatch(line)
    if found is not None and is_secret(found[2]) and not goes_on:
        return f"{found[1]}{HIDDEN_VALUE if found[3] else ''}", _open_quote(found[3])
    head, rest = (found[1], found[3]) if found is not None and not goes_on else ("", line)
    return _words(head, rest, is_next=bool(goes_on))


def _words(head: str, text: str, *, is_next: bool) -> tuple[str, str]:
    """Write the words of a line, each in its place."""
    parts, at, left_open = [head], 0, ""
    for word in WORD.finditer(text):
        parts.append(text[at : word.start()])
        at = word.end()
        if word[0] == "\\":
            parts.append(word[0])
            continue
        plain = word[0].strip("\"'")
        shown = HIDDEN_VALUE if is_next else _assigned(word[0])
        left_open = _open_quote(word[0]) if shown != word[0] else ""
        is_next = not is_next and _is_option(plain)
        parts.append(shown)
    parts.append(text[at:])
    goes_on = left_open or (" " if is_next and text.rstrip().endswith("\\") else "")
    return _anywhere("".join(parts)), goes_on


def _assigned(word: str) -> str:
    """Hide the value of `NAME=…` or `--option=…`, in quotes or not."""
    name, equals, value = word.partition("=")
    if not equals or not value or not is_secret(name.strip("\"'")):
        return word
    quote = name[0] if name[0] in "\"'" else ""
    return f"{name}={HIDDEN_VALUE}{quote}"


def _anywhere(text: str) -> str:
    """Hide what looks like a secret wherever it stands."""
    text = MEMBER.sub(lambda found: f"{found[1]}{HIDDEN_VALUE}" if is_secret(found[2]) else found[0], text)
    return ACCOUNT.sub(rf"\g<1>{HIDDEN_VALUE}", BEARER.sub(rf"\g<1>{HIDDEN_VALUE}", text))


def _is_option(word: str) -> bool:
    return word.startswith("--") and "=" not in word and is_secret(word)


def _open_quote(text: str) -> str:
    """Give the quote that a value begins with and does not end with."""
    stripped = text.strip()
    opening = re.search(r"[\"']", stripped)
    return opening[0] if opening is not None and stripped.count(opening[0]) == 1 else ""
