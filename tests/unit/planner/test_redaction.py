"""What is named like a secret is never shown, wherever somebody wrote it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.planner.redaction import (
    HIDDEN_VALUE,
    is_secret,
    redacted_lines,
    redacted_value,
    redacted_words,
)


@pytest.mark.parametrize(
    "name",
    [
        "API_KEY", "OPENAI_API_KEYS", "token", "HF_TOKEN", "PASSWD", "DB_PASSPHRASE", "client.secret", "apikey",
        "--api-key", "AWS_CREDENTIALS", "Service.SetCredential", "auth_tokens", "models.code.api_key",
    ],
)  # fmt: skip
def test_names_of_secrets(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        "LLAMA_ARG_API_KEY_FILE",
        "context_tokens",
        "monkey",
        "KEYRING",
        "LLAMA_ARG_CACHE_TYPE_K",
        "Service.LoadCredential",
    ],
)
def test_names_of_other_things(name: str) -> None:
    assert not is_secret(name)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("API_KEY=hunter2", f"API_KEY={HIDDEN_VALUE}"),
        ("API_KEY=", "API_KEY="),
        ("# API_KEY = 'hunter2'", f"# API_KEY = {HIDDEN_VALUE}"),
        ("export TOKEN=hunter2", f"export TOKEN={HIDDEN_VALUE}"),
        ("Environment=A=1 API_KEY=hunter2 B=2", f"Environment=A=1 API_KEY={HIDDEN_VALUE} B=2"),
        ('Environment="API_KEY=hunter2 two" B=2', f'Environment="API_KEY={HIDDEN_VALUE}" B=2'),
        ("Environment='API_KEY=hunter2 two'", f"Environment='API_KEY={HIDDEN_VALUE}'"),
        ("ExecStart=/bin/x --api-key hunter2 --port 1", f"ExecStart=/bin/x --api-key {HIDDEN_VALUE} --port 1"),
        ('ExecStart=:/bin/x "--api-key" "hunter2"', f'ExecStart=:/bin/x "--api-key" {HIDDEN_VALUE}'),
        ("ExecStart=/bin/x --api-key=hunter2", f"ExecStart=/bin/x --api-key={HIDDEN_VALUE}"),
        ('ExecStart=/bin/x --api-key="hunter2 two" y', f"ExecStart=/bin/x --api-key={HIDDEN_VALUE} y"),
        ("ExecStart=/bin/x --api-key-file /run/key", "ExecStart=/bin/x --api-key-file /run/key"),
        ('  "api_key": "hunter2", "b": 1', f'  "api_key": {HIDDEN_VALUE}, "b": 1'),
        ('{"api_key":"hunter2"}', f'{{"api_key":{HIDDEN_VALUE}}}'),
        ("password: hunter2", f"password: {HIDDEN_VALUE}"),
        ("curl -H 'Authorization: Bearer hunter2'", f"curl -H 'Authorization: Bearer {HIDDEN_VALUE}'"),
        ("url=https://me:hunter2@example.org/", f"url=https://me:{HIDDEN_VALUE}@example.org/"),
        ("LoadCredential=api-key:/etc/kloros/key", "LoadCredential=api-key:/etc/kloros/key"),
        ('"context_tokens": 16000', '"context_tokens": 16000'),
        (r"a \"lone backslash \ ", r"a \"lone backslash \ "),
        ("[Service]", "[Service]"),
        ("", ""),
    ],
)
def test_a_line_is_shown_without_its_secrets(line: str, shown: str) -> None:
    assert list(redacted_lines([line])) == [shown]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ExecStart=/bin/x --api-key \\\n  hunter2 --b c", f"ExecStart=/bin/x --api-key \\\n  {HIDDEN_VALUE} --b c"),
        ("API_KEY='one\nhunter2\nthree'\nB=2", f"API_KEY={HIDDEN_VALUE}\n{HIDDEN_VALUE}\n{HIDDEN_VALUE}\nB=2"),
        ('Environment="API_KEY=one\nhunter2" B=2', f'Environment="API_KEY={HIDDEN_VALUE}"\n{HIDDEN_VALUE} B=2'),
        ("ExecStart=/bin/x --api-key\nB=2", "ExecStart=/bin/x --api-key\nB=2"),
    ],
)
def test_a_secret_may_go_on_in_the_next_line(text: str, shown: str) -> None:
    assert "\n".join(redacted_lines(text.split("\n"))) == shown


def test_values_are_told_by_their_name_and_by_what_stands_in_them() -> None:
    assert redacted_value("HF_TOKEN", "hunter2") == HIDDEN_VALUE
    assert redacted_value("Service.Environment", "A=1\nAPI_KEY=hunter2") == f"A=1\nAPI_KEY={HIDDEN_VALUE}"
    assert redacted_value("LLAMA_ARG_PORT", "8601") == "8601"


def test_words_of_a_command_line() -> None:
    words = ("--api-key", "hunter2", "--hf-token=hunter2", "--alias", "code", "API_KEY=hunter2")
    assert redacted_words(words) == (
        "--api-key", HIDDEN_VALUE, f"--hf-token={HIDDEN_VALUE}", "--alias", "code", f"API_KEY={HIDDEN_VALUE}",
    )  # fmt: skip


@given(st.lists(st.text("abcXYZ019 =\"'\\-_.:/", max_size=30), max_size=4))
def test_lines_stay_lines_and_nothing_else_is_lost(lines: list[str]) -> None:
    shown = list(redacted_lines(lines))
    assert len(shown) == len(lines)
    assert all(HIDDEN_VALUE in new or new == old for old, new in zip(lines, shown, strict=True))


@given(st.from_regex(r"[a-z0-9]{8,12}", fullmatch=True), st.sampled_from(["", "'", '"']))
def test_a_secret_never_comes_through(secret: str, quote: str) -> None:
    value = f"{quote}{secret}{quote}"
    lines = (f"API_KEY={value}", f"Environment=A=b MY_TOKEN={value}", f"ExecStart=/x --password {value} y")
    assert not any(secret in line for line in redacted_lines(lines))
