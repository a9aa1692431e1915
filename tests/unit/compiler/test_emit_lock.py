"""The lock as text: what is written is what compile reads, byte for byte the same each time."""

from __future__ import annotations

import difflib
import hashlib

import yaml

from kloros_infra.compiler.emit_lock import emit_lock
from kloros_infra.compiler.header_json import header_from_json
from kloros_infra.compiler.parse_lock import parse_lock
from kloros_infra.ir.lock import Origin
from tests.factories import a_7b_header, a_lock, some_weights

LOCK = a_lock(some_weights("b@2025-11-17-01", header=a_7b_header(), origin=Origin.DERIVED), some_weights("a@1"))


def test_what_is_written_is_what_is_read() -> None:
    texts = dict(emit_lock(LOCK))

    assert parse_lock(texts.pop("models.lock.yaml"), texts, file="models.lock.yaml") == (LOCK, ())


def test_the_order_of_entries_does_not_matter() -> None:
    backwards = a_lock(*reversed(list(LOCK.weights.values())))

    assert list(emit_lock(backwards).items()) == list(emit_lock(LOCK).items())


def test_each_header_has_its_file_and_its_hash() -> None:
    texts = emit_lock(LOCK)

    assert list(texts) == ["models.lock.yaml", "models.lock/a@1.json", "models.lock/b@2025-11-17-01.json"]
    entry = yaml.safe_load(texts["models.lock.yaml"])["weights"]["a@1"]
    text = texts[entry["header"]]
    assert entry["header_sha256"] == hashlib.sha256(text.encode()).hexdigest()
    assert header_from_json(text) == LOCK.weights["a@1"].header


def test_one_model_more_only_adds_lines() -> None:
    before = emit_lock(LOCK)
    after = emit_lock(a_lock(*LOCK.weights.values(), some_weights("ab@1"), some_weights("ab@1+mmproj")))

    assert after.keys() - before.keys() == {"models.lock/ab@1.json", "models.lock/ab@1+mmproj.json"}
    assert all(after[path] == before[path] for path in before if path != "models.lock.yaml")
    old, new = (texts["models.lock.yaml"].splitlines() for texts in (before, after))
    kinds = {line[0] for line in difflib.ndiff(old, new)}
    assert kinds == {" ", "+"}


def test_every_fact_has_its_own_line() -> None:
    lines = emit_lock(LOCK)["models.lock.yaml"].splitlines()

    assert "    size_bytes: 1000" in [line.replace(str(LOCK.weights["a@1"].size_bytes), "1000") for line in lines]
    assert all(line.count(": ") <= 1 for line in lines)


def test_the_first_line_says_who_wrote_it() -> None:
    assert emit_lock(LOCK)["models.lock.yaml"].startswith("# Written by kloros-infra lock – do not edit.\nversion: 1\n")
