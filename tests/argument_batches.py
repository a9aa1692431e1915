"""Many values of `arguments` at once, such that every reader on the way could take one otherwise, and what is meant.

The way is models.yaml → parse → resolve → emit → unit and env file → service manager → launcher → llama-server.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kloros_infra.adapters.templates import read_templates
from kloros_infra.compiler.emit import emit
from kloros_infra.compiler.emit_launcher import launcher
from kloros_infra.compiler.parse import parse
from kloros_infra.compiler.placing import place_all
from kloros_infra.compiler.resolve import resolve
from kloros_infra.ir.artifact import TextFile
from kloros_infra.ir.layout import Layout
from tests.factories import a_gguf_header, a_lock_for

SEEDS = range(3)
COUNT = 200
UNIT = "llama@recorder-cpu_only.service"

# What shells, systemd, its env files, YAML and option parsers give a meaning to.
SPECIAL = (
    *("", " ", "-", "--", "-x", "--alias", "--no-mmap", "-1", "=", "a=b", ";", "\\;", ":", "@", "+", "!", "|", "&"),
    *("$HOME", "${HOME}", "$$", "$(id)", "`id`", "%", "%%", "%n", "%i", "%h", "100%", "~", "*", "?", "[a]", "{a,b}"),
    *("\\", "\\\\", "\\n", "\\x41", "\\u00e9", "\\101", "a\\", "\\ ", '"', "'", '"a"', "'a'", "it's", '\\"', "\"'\"'"),
    *(" a", "a ", "  a  b  ", "# a", "a # b", "a: b", "- a", "null", "true", "no", "1.10", "0x1f", "1e3", "---", "..."),
    *("blk\\.(1|2)\\.ffn=CUDA0,x", '{"a": [1, "b"]}', "ä", "e\u0301", "\u00a0", "\u3000", "\ufeff", "\u202e"),
    *("🦙", "\U0010fffd"),
)  # fmt: skip
ALPHABET = " '\"\\$%;#=`*:@-+!~{}[]()&|<>?,./^_" * 3 + "abcXYZ019äßé“—名🦙\u00a0\u0301\u200d"
LONGEST = 4096

Value = bool | int | float | str | list[int | float | str]


@dataclass(frozen=True)
class Batch:
    """An installation whose one unit carries many arguments; `words` is what llama-server shall be started with."""

    layout: Layout
    unit_text: str
    env_path: str
    env_text: str
    words: tuple[str, ...]
    variables: Mapping[str, str]
    description: str


def texts(seed: int) -> tuple[str, ...]:
    """Make up texts: the special ones, short ones, and a few as long as they may be."""
    made_up = random.Random(seed)  # noqa: S311 - the same each time, and no secret
    short = ("".join(made_up.choices(ALPHABET, k=made_up.randint(1, 30))) for _ in range(COUNT))
    long = ("".join(made_up.choices(ALPHABET, k=LONGEST)) for _ in range(3))
    return (*SPECIAL, *short, *long)


def arguments(seed: int) -> dict[str, Value]:
    """Give every text an option of its own, and some options other kinds of values."""
    made_up = random.Random(seed)  # noqa: S311 - likewise
    several = texts(seed)
    values: list[Value] = [*several, True, False, 0, -1, 2**63, 0.1, -2.5, 1e-7, 1e22]
    values += [[made_up.choice(several) for _ in range(3)], [1, 0.5, "a b"]]
    return {f"option-{index:03}": value for index, value in enumerate(values)}


def intended(options: Mapping[str, Value]) -> Iterator[str]:
    """Say what llama-server shall see of options."""
    for name, value in options.items():
        match value:
            case bool():
                yield f"--{name}" if value else f"--no-{name}"
            case list():
                yield from (word for item in value for word in (f"--{name}", str(item)))
            case _:
                yield from (f"--{name}", str(value))


def batch(seed: int, layout: Layout) -> Batch:
    """Compile a models.yaml with one model under `cpu_only` that has all of a seed's arguments."""
    options, display_name = arguments(seed), texts(seed)[-4]
    parsed, problems = parse(_models_yaml(options, display_name), file="models.yaml")
    assert parsed, problems
    catalog, problems = resolve(parsed, a_lock_for(parsed.config, header=a_gguf_header()))
    assert catalog, problems
    placements, problems = place_all(catalog)
    assert not problems
    tree = emit(catalog, placements, read_templates(), layout)
    (env_path,) = (path for path in tree if path.startswith(layout.env))
    env, unit = tree[env_path], tree[layout.unit_path(UNIT)]
    assert isinstance(env, TextFile)
    assert isinstance(unit, TextFile)
    weights = layout.absolute(layout.weights_path("recorder", "1"))
    return Batch(
        layout,
        unit.text,
        env_path,
        env.text,
        ("--alias", "recorder", *intended(options)),
        {"LLAMA_ARG_MODEL": weights, "LLAMA_ARG_PORT": "8601", "LLAMA_ARG_HOST": "127.0.0.1"},
        f"llama-server recorder-cpu_only ({display_name})",
    )


def _models_yaml(options: Mapping[str, Value], display_name: str) -> str:
    model = {
        "id": "recorder",
        "display_name": display_name,
        "purpose_tags": ["test"],
        "context_tokens": 2048,
        "cost_tier": "low",
        "versions": [{"version_id": "1", "gguf_url": "file:///weights/recorder.gguf"}],
        "profiles": {"cpu_only": {"port": 8601}},
        "arguments": options,
    }
    tree = {"version": 1, "hosts": {"here": {}}, "profiles": {"cpu_only": {"gpus": []}}, "models": [model]}
    # YAML knows JSON's escapes but not its pairs of surrogates.
    text = json.dumps(tree, ensure_ascii=False, indent=1)
    return re.sub(r"[^\x20-\x7e\n]", lambda found: f"\\U{ord(found[0]):08x}", text)


# It stands for llama-server: it stays, so that its words and variables can be read from /proc.
RECORDER = "#!/bin/sh\nsleep 300 &\nwait\n"


def recorder_launcher(recorder: str) -> str:
    """Write the launcher that units start, as apply writes it for a llama-server at this path."""
    return launcher(recorder, None, ()).text


def recorded_words(cmdline: bytes, recorder: str) -> tuple[str, ...] | None:
    """Read what the recorder was started with from its /proc/PID/cmdline; None before it has started."""
    words = cmdline.decode().split("\0")[:-1]
    return tuple(words[2:]) if words[1:2] == [recorder] else None


def recorded_variables(environ: bytes) -> dict[str, str]:
    """Read /proc/PID/environ."""
    return dict(entry.split("=", 1) for entry in environ.decode().split("\0") if entry)
