"""What users type for weights on the hub, and which file it means."""

from __future__ import annotations

import pytest

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.editing.hub_reference import (
    HubFile,
    HubReference,
    choose_file,
    choose_projector,
    parse_reference,
)

REPOSITORY = "owner/Name.2-GGUF"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("owner/Name.2-GGUF", HubReference(REPOSITORY)),
        ("owner/Name.2-GGUF:Q4_K_M", HubReference(REPOSITORY, quantization="Q4_K_M")),
        ("hf.co/owner/Name.2-GGUF:q8_0", HubReference(REPOSITORY, quantization="q8_0")),
        ("hf.co/owner/Name.2-GGUF:latest", HubReference(REPOSITORY)),
        ("hf://owner/Name.2-GGUF/sub/a.gguf", HubReference(REPOSITORY, file="sub/a.gguf")),
        ("hf://owner/Name.2-GGUF@v1/a.gguf", HubReference(REPOSITORY, revision="v1", file="a.gguf")),
        ("owner/Name.2-GGUF@v1:Q4_0", HubReference(REPOSITORY, revision="v1", quantization="Q4_0")),
        ("https://huggingface.co/owner/Name.2-GGUF", HubReference(REPOSITORY)),
        ("https://huggingface.co/owner/Name.2-GGUF/tree/main", HubReference(REPOSITORY)),
        ("https://huggingface.co/owner/Name.2-GGUF/blob/dev/a.gguf", HubReference(REPOSITORY, "dev", "a.gguf")),
        (
            "https://huggingface.co/owner/Name.2-GGUF/resolve/main/a.gguf?download=true",
            HubReference(REPOSITORY, file="a.gguf"),
        ),
    ],
)
def test_addresses_are_understood(text: str, expected: HubReference) -> None:
    assert parse_reference(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "qwen", "qwen:7b", "owner/", "/repo", "owner/repo/a.bin", "owner/../a.gguf", "a/b c", "ftp://a/b", "-a/b"],
)
def test_other_words_are_not(text: str) -> None:
    refused = parse_reference(text)
    assert isinstance(refused, Diagnostic)
    assert refused.code == "KI528"


def test_a_source_names_the_revision_if_there_is_one() -> None:
    assert HubReference(REPOSITORY).url("a.gguf") == f"hf://{REPOSITORY}/a.gguf"
    assert HubReference(REPOSITORY, "v1").url("a.gguf") == f"hf://{REPOSITORY}@v1/a.gguf"


@pytest.mark.parametrize(
    ("path", "quantization"),
    [
        ("qwen2.5-coder-7b-instruct-q4_0.gguf", "Q4_0"),
        ("M.Q4_K_M.gguf", "Q4_K_M"),
        ("M-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("M.i1-IQ2_XXS.gguf", "IQ2_XXS"),
        ("nomic-embed-text-v1.5.f16.gguf", "F16"),
        ("model-fp16.gguf", "F16"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("BF16/model-00001-of-00002.gguf", "BF16"),
        ("Q4_K_M/M-Q4_K_M-00001-of-00003.gguf", "Q4_K_M"),
        ("Qwen2.5-7B.gguf", None),
    ],
)
def test_quantizations_are_read_from_names(path: str, quantization: str | None) -> None:
    assert HubFile(path, 1).quantization == quantization


def files(*paths: str) -> list[HubFile]:
    return [HubFile(path, 100 + place) for place, path in enumerate(paths)]


MANY = files(
    "README.md",
    "m-Q4_0.gguf",
    "m-Q4_K_M.gguf",
    "m-UD-Q5_K_XL.gguf",
    "m-imatrix.gguf",
    "mmproj-m-BF16.gguf",
    "mmproj-m-F16.gguf",
    "Q8_0/m-Q8_0-00001-of-00002.gguf",
    "Q8_0/m-Q8_0-00002-of-00002.gguf",
)


@pytest.mark.parametrize(
    ("quantization", "path"),
    [
        (None, "m-Q4_K_M.gguf"),
        ("q4_0", "m-Q4_0.gguf"),
        ("Q8_0", "Q8_0/m-Q8_0-00001-of-00002.gguf"),
        ("Q5_K_XL", "m-UD-Q5_K_XL.gguf"),
        ("UD-Q5_K_XL", "m-UD-Q5_K_XL.gguf"),
    ],
)
def test_the_file_of_a_quantization_is_chosen(quantization: str | None, path: str) -> None:
    chosen = choose_file(HubReference(REPOSITORY, quantization=quantization), MANY)
    assert isinstance(chosen, HubFile)
    assert chosen.path == path


def test_a_file_that_is_named_is_taken_if_it_is_there() -> None:
    assert choose_file(HubReference(REPOSITORY, file="m-Q4_0.gguf"), MANY) == MANY[1]


def test_any_part_of_a_split_file_stands_for_the_first() -> None:
    assert choose_file(HubReference(REPOSITORY, file=MANY[8].path), MANY) == MANY[7]


def test_the_only_weights_are_taken_whatever_they_are() -> None:
    assert choose_file(HubReference(REPOSITORY), files("odd.gguf", "README.md")) == HubFile("odd.gguf", 100)


@pytest.mark.parametrize(
    ("reference", "there", "code", "hint"),
    [
        (HubReference(REPOSITORY, file="m-Q4_1.gguf"), MANY, "KI529", "Did you mean 'm-Q4_0.gguf'?"),
        (HubReference(REPOSITORY, file="zzz.gguf"), MANY, "KI529", "It has Q4_0, Q4_K_M, Q8_0, UD-Q5_K_XL;"),
        (HubReference(REPOSITORY, file="mmproj-m-F16.gguf"), MANY, "KI529", ""),
        (HubReference(REPOSITORY, quantization="Q2_K"), MANY, "KI529", "It has Q4_0"),
        (HubReference(REPOSITORY), files("b.gguf", "a.gguf"), "KI529", "Name one of its files: a.gguf, b.gguf."),
        (HubReference(REPOSITORY), files("README.md"), "KI529", "no GGUF files"),
        (
            HubReference(REPOSITORY, quantization="q4_0"),
            files("b-q4_0.gguf", "a-q4_0.gguf"),
            "KI530",
            f"hf://{REPOSITORY}/a-q4_0.gguf, hf://{REPOSITORY}/b-q4_0.gguf",
        ),
    ],
)
def test_what_is_not_there_or_not_clear_is_explained(
    reference: HubReference, there: list[HubFile], code: str, hint: str
) -> None:
    refused = choose_file(reference, there)
    assert isinstance(refused, Diagnostic)
    assert refused.code == code
    assert hint in refused.hint


def test_a_projector_in_half_precision_is_preferred() -> None:
    assert choose_projector(MANY) == MANY[6]
    assert choose_projector(files("mmproj-m-Q8_0.gguf", "mmproj-m-BF16.gguf")) == HubFile("mmproj-m-Q8_0.gguf", 100)
    assert choose_projector(files("m-Q4_0.gguf")) is None
