"""A llama-server's settings become a model's, placement stays ours, and the rest is named."""

from __future__ import annotations

import shlex

import pytest

from kloros_infra.ir.catalog import KvType, ModelKind, PlacementMode
from kloros_infra.migration.served import Repository, Served, read_settings
from kloros_infra.migration.settings import Setting, settings_of_words


def served(words: str) -> Served:
    return read_settings(settings_of_words(shlex.split(words))[0])


def test_what_has_a_key_becomes_it() -> None:
    found = served(
        "-m /w/x.gguf -c 8192 -np 2 --no-kv-unified -ctk q8_0 -ctv q4_0 --chat-template chatml --mmproj /w/p.gguf"
        " -md /w/d.gguf --spec-draft-n-max 8 --draft-min 1 --spec-draft-p-min 0.75 -ts 3/1 --alias 'a, b' --tags x,y"
        " --sleep-idle-seconds 60 --fit on"
    )
    assert found.weights == "file:///w/x.gguf"
    assert found.context_per_request == 4096
    assert (found.cache_type_k, found.cache_type_v) == (KvType.Q8_0, KvType.Q4_0)
    assert found.chat_template == "chatml"
    assert (found.projector, found.kind) == ("file:///w/p.gguf", ModelKind.VISION)
    assert (found.draft, found.draft_max_tokens, found.draft_min_tokens) == ("file:///w/d.gguf", 8, 1)
    assert found.draft_min_probability == 0.75
    assert found.tensor_split == (3.0, 1.0)
    assert (found.aliases, found.tags) == (("a", "b"), ("x", "y"))
    assert found.idle_timeout_s == 60
    assert found.placement is PlacementMode.FIT
    assert (found.notes, found.problems, found.obstacle, found.arguments) == ([], [], "", {})


@pytest.mark.parametrize(
    ("words", "context"),
    [
        ("-c 8192", 8192),
        ("-c 8192 -np 4", 2048),
        ("-c 8192 -np 4 --kv-unified", 8192),
        ("-c 8192 -np -1", 8192),
        ("-c 0", None),
        ("", None),
    ],
)
def test_the_context_is_that_of_one_request(words: str, context: int | None) -> None:
    assert served(f"-m /x {words}").context_per_request == context


def test_further_options_are_arguments_numbers_as_numbers() -> None:
    found = served(
        "-m /x -t 8 --temp 0.50 --top-p 0.9 --mlock --no-mmap --rope-scaling yarn"
        " --dry-sequence-breaker a --dry-sequence-breaker b --dry-sequence-breaker c"
    )
    assert found.arguments == {
        "threads": 8,
        "temp": "0.50",
        "top-p": 0.9,
        "mlock": True,
        "mmap": False,
        "rope-scaling": "yarn",
        "dry-sequence-breaker": ("a", "b", "c"),
    }


def test_the_last_of_the_same_option_counts() -> None:
    assert served("-m /x -t 4 -t 8 --numa isolate --numa distribute").arguments == {"threads": 8, "numa": "distribute"}
    assert served("-m /x --override-kv a=int:1").arguments == {"override-kv": "a=int:1"}


@pytest.mark.parametrize("text", ["nan", "inf", "1e5", "007", "0x10", "1_000", "on"])
def test_what_is_no_plain_number_stays_text(text: str) -> None:
    assert served(f"-m /x --rope-scale {text}").arguments == {"rope-scale": text}


def test_placement_is_ours_and_says_so_once() -> None:
    (note,) = served("-m /x -ngl 99 -ot exps=CPU --cpu-moe -dev CUDA0 --fit off").notes
    assert note == "placement is our own: n-gpu-layers 99, override-tensor exps=CPU, cpu-moe, device CUDA0 left out"


def test_what_we_do_anyway_is_not_worth_a_word() -> None:
    found = served("-m /x --host 0.0.0.0 --port 9 --jinja -fa -ub 512 --cache-ram 1024 --metrics --no-webui --offline")
    assert (found.notes, found.arguments) == ([], {})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("-fa off", "flash-attn left out"),
        ("-ub 2048", "ubatch-size left out"),
        ("--api-key x", "api-key left out"),
        ("--slot-save-path /x", "slot-save-path left out"),
        ("--chat-template '{% if %}'", "chat-template left out"),
        ("-md d.gguf", "draft model left out"),
        ("-hfd a/b", "draft model left out"),
        ("--mmproj p.gguf", "mmproj left out"),
        ("--mmproj-url https://x/y", "mmproj-url left out"),
        ("--Odd_Name x", "Odd_Name left out"),
    ],
)
def test_what_is_lost_is_named(words: str, said: str) -> None:
    (note,) = served(f"-m /x {words}").notes
    assert said in note
    assert note.isprintable()


def test_a_projector_beside_the_weights_can_be_refused() -> None:
    assert served("-hf a/b").takes_projector
    assert not served("-hf a/b --no-mmproj").takes_projector


def test_kinds_are_switched_on() -> None:
    assert served("-m /x --embedding").kind is ModelKind.EMBEDDING
    assert served("-m /x --rerank").kind is ModelKind.RERANK
    assert served("-m /x --rerank --mmproj /p").kind is ModelKind.RERANK
    assert served("-m /x").kind is None
    assert read_settings((Setting("model", "/x"), Setting("embedding", False))).kind is None


@pytest.mark.parametrize(
    ("words", "weights"),
    [
        ("-hf a/b", Repository("a/b")),
        ("-hf a/b:Q8_0", Repository("a/b", "Q8_0")),
        ("-hf a/b --hf-file c.gguf", Repository("a/b", "", "c.gguf")),
        ("--hf-file c.gguf -hf a/b", Repository("a/b", "", "c.gguf")),
        ("-mu https://huggingface.co/a/b/resolve/main/c/d.gguf", "hf://a/b/c/d.gguf"),
        ("-mu https://huggingface.co/a/b/resolve/v1/d.gguf?download=true", "hf://a/b@v1/d.gguf"),
    ],
)
def test_weights_come_from_the_hub(words: str, weights: object) -> None:
    found = served(words)
    assert found.weights == weights
    assert found.obstacle == ""


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("", "names no weights"),
        ("-m models/x.gguf", "is relative"),
        ("-m /a/../x.gguf", "cannot be written"),
        ("-m '/a\nb'", "cannot be written"),
        ("-mu https://example.org/x.gguf", "Hugging Face"),
        ("-mu 'https://huggingface.co/a/b/resolve/main/x y.gguf'", "Hugging Face"),
        ("-hf nonsense", "no repository"),
        ("-dr gemma3", "Docker"),
    ],
)
def test_weights_that_cannot_be_named_are_an_obstacle(words: str, why: str) -> None:
    found = served(words)
    assert why in found.obstacle
    assert found.obstacle.isprintable()


@pytest.mark.parametrize(
    "words",
    ["-c many", "-c -5", "--parallel 0", "-ctk q9", "-ts 3,x", "-ts -1,2", "-ts inf", "--sleep-idle-seconds x", "-c"],
)
def test_values_that_are_none_are_problems(words: str) -> None:
    found = served(f"-m /x {words}")
    assert [problem.code for problem in found.problems] == ["KI551"]
    assert not found.problems[0].is_error


def test_a_share_is_at_most_one_and_figures_have_a_bound() -> None:
    found = served("-m /x --spec-draft-p-min 3 --spec-draft-n-max 1000 --sleep-idle-seconds -1 --spec-draft-n-min x")
    assert (found.draft_min_probability, found.draft_max_tokens) == (1.0, 64)
    assert (found.idle_timeout_s, found.draft_min_tokens) == (None, None)
    assert served("-m /x --spec-draft-p-min x").draft_min_probability is None
    assert served("-m /x --fit off").placement is None
