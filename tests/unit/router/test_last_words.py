"""What those who asked are told of a load that failed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.router.last_words import last_words, without_folders

UNIT = "llama@code-max.service"
BANNER = tuple(f"load_tensors: layer {index} assigned to device CPU" for index in range(15))


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (f"{UNIT} has ended by itself", f"{UNIT} has ended by itself. It"),
        (f"{UNIT} failed (result exit-code, status 1).", f"{UNIT} failed (result exit-code, status 1). It"),
        ("It was not ready within 60 s.", f"{UNIT} did not start: It was not ready within 60 s. It"),
    ],
)
def test_the_reason_is_one_sentence_and_names_the_unit_once(reason: str, said: str) -> None:
    words = last_words(UNIT, reason, ("error: no such file",))
    assert words.startswith(said)
    assert words.count(UNIT) == 1
    assert ".." not in words


def test_the_lines_that_speak_of_a_failure_are_given_without_the_rest() -> None:
    lines = (*BANNER, "error loading model: out of memory", "srv: cleaning up", "main: exiting due to error")
    first, *rest = last_words(UNIT, f"{UNIT} has ended by itself", lines).splitlines()
    assert first == f"{UNIT} has ended by itself. It wrote last:"
    assert rest == ["    | error loading model: out of memory", "    | main: exiting due to error"]


def test_a_port_that_is_taken_is_told_as_llama_server_says_it() -> None:
    line = "start: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 8601"
    assert line in last_words(UNIT, f"{UNIT} has ended by itself", (line, *BANNER, "main: exiting due to error"))


def test_where_none_speaks_of_one_the_last_are_given() -> None:
    words = last_words(UNIT, "x", (*BANNER, ""))
    assert [line.split()[3] for line in words.splitlines()[1:]] == ["10", "11", "12", "13", "14"]


def test_where_nothing_was_written_that_is_said() -> None:
    words = last_words(UNIT, "it was killed", ("", " "))
    assert words == f"{UNIT} did not start: it was killed. It wrote nothing to its log."


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("cannot open '/var/lib/kloros/weights/a/1/model.gguf'", "cannot open '…/model.gguf'"),
        ("failed: /home/jo/models/", "failed: …/"),
        ("file=/srv/a.gguf, 3/4 read", "file=…/a.gguf, 3/4 read"),
        ("POST http://127.0.0.1:8080/v1/chat/completions", "POST http://127.0.0.1:8080/v1/chat/completions"),
        ("n/a and/or /root", "n/a and/or /root"),
    ],
)
def test_folders_of_this_machine_are_not_told(text: str, plain: str) -> None:
    assert without_folders(text) == plain


@given(st.text(alphabet="/ab. '", max_size=60))
def test_what_was_done_once_is_done(text: str) -> None:
    assert without_folders(without_folders(text)) == without_folders(text)
