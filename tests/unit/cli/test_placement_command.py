"""`placement`: what its commands print, draw and refuse."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from click.testing import CliRunner, Result

from kloros_infra.cli.commands import lock_command, placement_command
from kloros_infra.cli.placement_text import BAR_CELLS, SIGNS, bar, layers_text, legend
from kloros_infra.cli.program import COMMANDS, program
from kloros_infra.errors import ProblemsError
from kloros_infra.ir.placement import CPU
from kloros_infra.placement.account import DeviceAccount
from tests.factories import GIB

GPUS = {
    "big": {"pci": "0000:01:00.0", "name": "NVIDIA GeForce RTX 3090"},
    "rtx3060": {"pci": "0000:04:00.0"},
}


def a_model(id: str, architecture: str, quantization: str, port: int, **settings: object) -> dict[str, object]:
    version = {
        "version_id": "1",
        "gguf_url": f"file:///weights/{id}.gguf",
        "architecture": architecture,
        "quantization": quantization,
    }
    return {
        "id": id,
        "purpose_tags": ["fast"],
        "context_tokens": 8192,
        "current_version": "1",
        "versions": [version],
        "profiles": {"max": {"port": port}, "mid": {"port": port + 1}},
        **settings,
    }


CONFIG: dict[str, object] = {
    "version": 1,
    "hosts": {"box": {"memory": "8GiB"}},
    "gpus": {name: {"host": "box", **gpu} for name, gpu in GPUS.items()},
    "profiles": {"max": {"gpus": ["big", "rtx3060"]}, "mid": {"gpus": ["rtx3060"]}},
    "models": [
        a_model("chat", "llama-3.1-8b", "Q4_K_M", 8601, placement="manual", profiles={
            "max": {"port": 8601, "layers": {"big": 20, "rtx3060": 13}}, "mid": {"port": 8602}}),
        a_model("deep", "qwen2.5-32b", "Q4_K_M", 8611, preload=False, profiles={"max": {"port": 8611}}),
    ],
    "purposes": {"fast": {"candidates": ["chat"], "default": True}},
}  # fmt: skip


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lock once: the weights are nowhere, so that their headers are derived."""
    file = tmp_path_factory.mktemp("site") / "models.yaml"
    file.write_text(yaml.safe_dump(CONFIG))
    result = CliRunner().invoke(lock_command.command, ["--file", str(file)])
    assert result.exit_code == 0, result.output
    return file.parent


@pytest.fixture
def site(locked: Path, tmp_path: Path) -> Path:
    return shutil.copytree(locked, tmp_path / "site") / "models.yaml"


def run(site: Path, *words: str | Path) -> Result:
    command, *rest = map(str, words)
    return CliRunner().invoke(placement_command.command, [command, "--file", str(site), *rest])


def done(site: Path, *words: str | Path) -> str:
    result = run(site, *words)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def data(site: Path, *words: str | Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done(site, *words, "--json"))
    return found


def codes(result: Result) -> list[str]:
    assert isinstance(result.exception, ProblemsError), result.output
    return [problem.code for problem in result.exception.problems]


def test_the_program_knows_the_commands() -> None:
    shown = CliRunner().invoke(program, ["placement", "--help"])
    assert shown.exit_code == 0
    assert COMMANDS["placement"]
    for name in ("show", "compare", "verify", "what-if"):
        assert re.search(rf"^  {name} ", shown.stdout, re.MULTILINE)


def test_show_draws_a_bar_for_each_device(site: Path) -> None:
    text = done(site, "show", "chat", "--profile", "max")
    assert text.startswith("chat-max (chat), placed by layers\n  8192 tokens of context, keys f16, values f16, micro-")
    assert re.search(r"^  big \(CUDA0\) +\[#+=+\++-+\.+\] weights \d", text, re.MULTILINE)
    assert "layers 20-31 and the output head" in text
    assert "no layers: the token embedding alone" in text
    assert re.search(r"foreseen: \d+ tok/s generated, \d+ tok/s of prompt read, 4096 tokens deep; 3 graph", text)
    assert "deep-max" not in text


def test_show_without_a_model_shows_them_all(site: Path) -> None:
    text = done(site, "show")
    assert re.findall(r"^(\S+) \(", text, re.MULTILINE) == ["chat-max", "chat-mid", "deep-max"]
    # What is started with the profile is in the way of the one that waits.
    assert re.search(r"deep-max.*other models \d", text, re.DOTALL)


def test_show_as_data_has_every_byte(site: Path) -> None:
    found = data(site, "show", "chat")
    assert found["version"] == 1
    first = found["instances"][0]
    assert (first["instance"], first["model"], first["profile"]) == ("chat-max", "chat", "max")
    assert first["layer_devices"] == ["CUDA0"] * 20 + ["CUDA1"] * 13
    card = first["devices"][0]
    parts = ("weights", "kv", "compute", "extra", "others", "reserve", "free")
    assert sum(card[f"{part}_bytes"] for part in parts) == card["total_bytes"]
    assert first["predicted"]["splits"] == 3


def test_a_picture_is_well_formed_and_holds_what_the_text_says(site: Path, tmp_path: Path) -> None:
    file = tmp_path / "plan.svg"
    done(site, "show", "--plot", file)
    root = ElementTree.fromstring(file.read_text())  # noqa: S314 - our own output
    texts = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert any(text.startswith("chat-max (chat), placed by layers") for text in texts)
    assert {"weights", "keys and values", "free"} <= set(texts)
    rects = [element.attrib for element in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert all(float(rect.get("x", 0)) + float(rect["width"]) <= float(root.attrib["width"]) for rect in rects)


def test_another_kind_of_picture_is_refused(site: Path, tmp_path: Path) -> None:
    result = run(site, "show", "--plot", tmp_path / "plan.png")
    assert result.exit_code == 2
    assert "does not end in .svg" in result.stderr


def test_compare_sets_engines_side_by_side(site: Path, tmp_path: Path) -> None:
    text = done(site, "compare", "chat", "--profile", "max", "--plot", tmp_path / "all.svg")
    rows = re.findall(r"^  ( |\*)  (\w+) ", text, re.MULTILINE)
    assert rows == [(" ", "ENGINE"), (" ", "solver"), ("*", "manual"), (" ", "fit"), (" ", "default")]
    assert (tmp_path / "all.svg").read_text().count("placed by") == 8  # titles, and the picture's own
    costs = [float(found) for found in re.findall(r"^  [ *]  [a-z]+ +\S+ +\S+ +([\d.]+)", text, re.MULTILINE)]
    assert costs[0] == min(costs)


def test_compare_says_what_does_not_fit(site: Path) -> None:
    found = data(site, "compare", "deep")["instances"][0]
    assert found["chosen"] == "solver"
    by_engine = {one["engine"]: one for one in found["engines"]}
    assert by_engine["solver"]["fits"]
    assert by_engine["solver"]["predicted"]["decode_tokens_per_s"] > 1


def test_compare_of_what_fits_nowhere_else(site: Path) -> None:
    config = yaml.safe_load(site.read_text())
    config["models"][0]["profiles"]["mid"] = {"port": 8602, "layers": {"rtx3060": 40}}
    config["models"][0]["profiles"]["max"] = {"port": 8601}
    site.write_text(yaml.safe_dump(config))
    # The rest can be looked at although this cannot be placed.
    assert "chat-max" in done(site, "compare", "chat")
    assert codes(run(site, "compare", "chat", "--profile", "mid")) == ["KI404", "KI441"]


def test_what_if_tells_before_and_after(site: Path) -> None:
    text = done(site, "what-if", "--profile", "mid", "--gpu", "rtx3090:24GiB", "--without", "rtx3060")
    chat, deep = (next(line for line in text.splitlines() if line.startswith(name)) for name in ("chat", "deep"))
    assert re.search(r"rtx3060 +rtx3090 +\d+ -> \d+ tok/s +\d+ -> \d+ tok/s$", chat)
    assert re.search(r"rtx3090 +- -> \d+ tok/s|rtx3090 +[\d.]+ -> \d+ tok/s", deep)
    assert deep.endswith("left out by this profile so far")


def test_what_if_a_model_fits_neither_now_nor_then(site: Path) -> None:
    config = yaml.safe_load(site.read_text())
    del config["hosts"]["box"]["memory"]
    site.write_text(yaml.safe_dump(config))
    text = done(site, "what-if", "--profile", "mid", "--gpu", "rtx3060:8GiB", "--context", "16384")
    deep = next(line for line in text.splitlines() if line.startswith("deep"))
    assert re.search(r"does not fit +does not fit +- +- +Model does not fit; left out by this profile", deep)


def test_what_if_as_data(site: Path) -> None:
    words = ("what-if", "--gpu", "rtx3090", "--gpu", "rtx3090", "--context", "16384", "--model", "deep")
    found = data(site, *words)
    (deep,) = found["models"]
    assert deep["before"]["context_tokens"] == 8192
    assert deep["after"]["context_tokens"] == 16384
    assert [load["card"] for load in deep["after"]["loads"]] != []
    assert {"rtx3090", "rtx3090-2"} & {load["card"] for load in deep["after"]["loads"]}
    assert not deep["is_guest"]


def test_what_if_a_card_of_models_yaml_has_more_memory(site: Path) -> None:
    found = data(site, "what-if", "--profile", "mid", "--gpu", "big", "--gpu", "rtx3060:48GiB", "--model", "chat")
    (chat,) = found["models"]
    assert chat["after"]["engine"] == "solver"
    assert {load["card"] for load in chat["after"]["loads"]} <= {"big", "rtx3060", None}


def test_what_if_all_is_too_small(site: Path) -> None:
    result = run(site, "what-if", "--profile", "mid", "--gpu", "rtx3060:1GiB", "--context", "131072")
    assert result.exit_code == 0
    assert re.search(r"^chat +rtx3060 +\S+.*\n", result.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("show", "chatt"), "KI801"),
        (("show", "--profile", "maxi"), "KI440"),
        (("show", "deep", "--profile", "mid"), "KI441"),
        (("what-if", "--gpu", "rtx3099"), "KI442"),
        (("what-if", "--gpu", "rtx3090:24"), "KI442"),
        (("what-if", "--profile", "mid", "--without", "big"), "KI443"),
        (("what-if", "--profile", "min"), "KI440"),
        (("what-if", "--model", "none"), "KI801"),
    ],
)
def test_names_that_nobody_knows_are_refused(site: Path, words: tuple[str, ...], code: str) -> None:
    assert codes(run(site, *words)) == [code]


def test_a_file_that_is_none_is_told_with_its_problems(site: Path) -> None:
    site.write_text("version: 1\nmodles: []\n")
    assert "KI102" in codes(run(site, "show"))


def account(weights: int = 0, *, total: int | None = None, others: int = 0) -> DeviceAccount:
    return DeviceAccount(CPU, None, (), False, weights, 0, 0, 0, others_bytes=others, total_bytes=total)


def test_whatever_is_there_has_a_cell_of_the_bar() -> None:
    assert bar(account(total=None)) == "." * BAR_CELLS
    drawn = bar(account(10, total=10**9, others=3))
    assert len(drawn) == BAR_CELLS
    assert drawn.startswith("#o.")
    assert bar(account(GIB)) == "#" * BAR_CELLS
    assert legend((account(10),)) == f"{SIGNS['weights']} weights"


def test_layers_are_told_in_words() -> None:
    assert layers_text(account()) == "no layers"
    assert layers_text(account(1)) == "no layers: the token embedding alone"
    card = DeviceAccount("CUDA0", "a", (), False, 1, 0, 0, 0)
    assert layers_text(card) == "no layers"
