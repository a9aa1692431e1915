"""The text of `llama-server --help` → options."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.compiler.llama_server_options import Option, ServerOptions, parse_help

HELP = """\
----- common params -----

-h,    --help, --usage                  print usage and exit
--version                               show version and build info
-t,    --threads N                      number of CPU threads to use during generation (default: -1)
                                        (env: LLAMA_ARG_THREADS)
-ngl,  --gpu-layers, --n-gpu-layers N   max. number of layers to store in VRAM, either an exact number,
                                        'auto', or 'all' (default: auto)
                                        (env: LLAMA_ARG_N_GPU_LAYERS)
--poll <0...100>                        use polling level to wait for work (0 - no polling, default: 50)
--cpu-strict <0|1>                      use strict CPU placement (default: 0)
-sm,   --split-mode {none,layer,row,tensor}
                                        how to split the model across multiple GPUs, one of:
                                        - none: use one GPU only
                                        (env: LLAMA_ARG_SPLIT_MODE)
-fit,  --fit [on|off]                   whether to adjust unset arguments to fit in device memory
-ctk,  --cache-type-k TYPE              KV cache data type for K
                                        allowed values: f32, f16, q8_0
                                        (default: f16)
-dev,  --device <dev1,dev2,..>          comma-separated list of devices to use for offloading
-kvo,  --kv-offload, -nkvo, --no-kv-offload
                                        whether to enable KV cache offloading (default: enabled)
                                        (env: LLAMA_ARG_KV_OFFLOAD)
--spec-type none,draft-simple,ngram-mod
                                        comma-separated list of types of speculative decoding to use (default:
                                        none)
--no-host                               bypass host buffer allowing extra buffers to be used


----- example-specific params -----

-md                                     an option without a long name
--draft, --draft-n, --draft-max N       the argument has been removed. use --spec-draft-n-max or
                                        --spec-ngram-mod-n-max
                                        (env: LLAMA_ARG_DRAFT_MAX)
--chat-template JINJA_TEMPLATE          set custom jinja chat template (default: template taken from model's
                                        metadata)
                                        list of built-in templates:
                                        chatml, command-r, granite-4.0,
                                        zephyr
                                        (env: LLAMA_ARG_CHAT_TEMPLATE)
"""


@pytest.fixture(scope="module")
def known() -> ServerOptions:
    return parse_help(HELP)


def option_of(name: str, known: ServerOptions) -> Option:
    return known.options[name]


def test_long_names_are_known_and_short_ones_stand_for_them(known: ServerOptions) -> None:
    assert set(known.options) == {
        "help", "usage", "version", "threads", "gpu-layers", "n-gpu-layers", "poll", "cpu-strict", "split-mode", "fit",
        "cache-type-k", "device", "kv-offload", "no-kv-offload", "no-host", "draft", "draft-n", "draft-max",
        "chat-template", "spec-type",
    }  # fmt: skip
    assert known.short_names == {
        "h": "help", "t": "threads", "ngl": "gpu-layers", "sm": "split-mode", "fit": "fit", "ctk": "cache-type-k",
        "dev": "device", "kvo": "kv-offload", "nkvo": "kv-offload",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "takes_value"),
    [("help", False), ("threads", True), ("split-mode", True), ("no-kv-offload", False), ("no-host", False)],
)
def test_an_option_takes_a_value_or_none(name: str, takes_value: bool, known: ServerOptions) -> None:
    assert option_of(name, known).takes_value is takes_value


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("threads", ()),
        ("poll", ()),
        ("device", ()),
        ("cpu-strict", ("0", "1")),
        ("split-mode", ("none", "layer", "row", "tensor")),
        ("fit", ("on", "off")),
        ("cache-type-k", ("f32", "f16", "q8_0")),
    ],
)
def test_listed_values_are_all_that_an_option_takes(name: str, values: tuple[str, ...], known: ServerOptions) -> None:
    assert option_of(name, known).values == values


def test_numbers_and_the_words_beside_them_are_told(known: ServerOptions) -> None:
    assert option_of("n-gpu-layers", known).is_number
    assert option_of("n-gpu-layers", known).words == ("auto", "all")
    assert not option_of("device", known).is_number


def test_what_came_instead_of_an_option_is_told(known: ServerOptions) -> None:
    assert option_of("draft-max", known).removal == "use --spec-draft-n-max or --spec-ngram-mod-n-max"
    assert option_of("threads", known).removal is None


def test_built_in_chat_templates_are_listed(known: ServerOptions) -> None:
    assert known.chat_templates == ("chatml", "command-r", "granite-4.0", "zephyr")


@given(st.text() | st.text(alphabet="-- \n<>[]{},|Nabc'"))
def test_other_texts_give_options_or_none(text: str) -> None:
    for name, option in parse_help(text).options.items():
        assert not name.startswith("--")
        assert option.takes_value or not option.is_number


def test_a_list_of_words_in_the_place_of_a_value_is_what_may_be_listed(known: ServerOptions) -> None:
    spec_type, split_mode = (option_of(name, known) for name in ("spec-type", "split-mode"))

    assert (spec_type.values, spec_type.is_list) == (("none", "draft-simple", "ngram-mod"), True)
    assert (split_mode.values, split_mode.is_list) == (("none", "layer", "row", "tensor"), False)
    assert not option_of("device", known).is_list
