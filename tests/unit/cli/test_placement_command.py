"""`placement`: what its commands print, draw and refuse."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from click.testing import CliRunner, Result

from kloros_infra.cli.benching import Benched, bench, write_factors
from kloros_infra.cli.commands import lock_command, placement_command
from kloros_infra.cli.placements import read_view
from kloros_infra.cli.program import COMMANDS, program
from kloros_infra.errors import ProblemsError
from kloros_infra.ir.catalog import MeasuredSpeed

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


@pytest.mark.parametrize("words", [("chat", "--profile", "max"), ("deep",)])
def test_compare_has_a_column_for_each_card_of_any_engine(site: Path, words: tuple[str, ...]) -> None:
    config = yaml.safe_load(site.read_text())
    config["models"][0]["profiles"]["max"]["layers"] = {"big": 0, "rtx3060": 33}
    site.write_text(yaml.safe_dump(config))
    head, titles, *rows = done(site, "compare", *words).splitlines()
    assert head.endswith("layers and GiB on big | rtx3060 | CPU")
    at = titles.index("LAYERS")
    layers = [re.findall(r"\d+", row[at : titles.index("GiB")]) for row in rows]
    assert {sum(map(int, row)) for row in layers if row} == {32 if words[0] == "chat" else 64}


def test_what_a_small_model_takes_is_told_in_mib(site: Path) -> None:
    config = yaml.safe_load(site.read_text())
    config["models"][0]["versions"][0] |= {"architecture": "qwen2.5-0.5b", "quantization": "Q4_0"}
    config["models"][0]["profiles"] = {"mid": {"port": 8602}}
    config["models"][0] |= {"placement": "auto", "context_tokens": 512}
    site.write_text(yaml.safe_dump(config))
    assert CliRunner().invoke(lock_command.command, ["--file", str(site)]).exit_code == 0
    shown = done(site, "show", "chat")
    assert re.search(r"weights [1-9]\d+ MiB, keys and values \d+ MiB, compute \d+ MiB", shown)
    assert re.search(r"free [\d.]+ GiB of 11\.6 GiB", shown)
    head, titles, row, *_ = done(site, "compare", "chat").splitlines()
    assert head.endswith("layers and MiB on rtx3060 | CPU")
    assert re.fullmatch(r"[1-9]\d\d \| [1-9]\d+", row[titles.index("MiB") :])
    assert re.search(r" \d\.\d\d ", row), "milliseconds with the digits that an estimate has"


def test_a_picture_is_utf_8_whatever_the_terminal_is(site: Path, tmp_path: Path) -> None:
    broken(site, display_name="Zwölf 模型")
    picture = tmp_path / "plan.svg"
    picture.write_text("an earlier one")
    done(site, "show", "chat", "--plot", picture)
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    words = ["placement", "show", "chat", "--json", "--file", str(site), "--plot", str(picture)]
    ran = subprocess.run([sys.executable, "-m", "kloros_infra", *words], env=plain, capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr
    ElementTree.fromstring(picture.read_bytes())  # noqa: S314 - our own output
    assert "Zwölf 模型" in picture.read_text("utf-8")


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


def broken(site: Path, **settings: object) -> None:
    """Write something into the first model that nothing can be placed with."""
    config = yaml.safe_load(site.read_text())
    config["models"][0].update(settings or {"arguments": {"no-kv-offload": True}})
    site.write_text(yaml.safe_dump(config))


@pytest.mark.parametrize(
    "words",
    [("show", "chat"), ("show", "chat", "--profile", "max"), ("compare", "chat"), ("verify", "chat", "mid"),
     ("what-if", "--model", "chat")],
)  # fmt: skip
def test_what_is_wrong_with_a_model_is_told_and_not_that_there_is_none(site: Path, words: tuple[str, ...]) -> None:
    broken(site)
    assert codes(run(site, *words)) == ["KI255"]


def test_what_is_wrong_with_a_model_under_another_profile_is_left_out(site: Path) -> None:
    config = yaml.safe_load(site.read_text())
    config["models"][0]["profiles"]["mid"] = {"port": 8602, "layers": {"rtx3060": 40}}
    config["models"][0]["profiles"]["max"] = None
    site.write_text(yaml.safe_dump(config))
    assert codes(run(site, "show", "chat", "--profile", "mid")) == ["KI404", "KI441"]
    assert codes(run(site, "show", "chat", "--profile", "max")) == ["KI441"]


def test_what_if_tells_what_is_wrong_beside_what_can_be_told(site: Path) -> None:
    broken(site)
    result = run(site, "what-if", "--gpu", "rtx3090")
    assert result.exit_code == 1
    assert re.search(r"^deep ", result.stdout, re.MULTILINE)
    assert "KI255" in result.stderr
    assert "models.yaml:" in result.stderr
    assert [one["code"] for one in json.loads(run(site, "what-if", "--json").stdout)["problems"]] == ["KI255"]
    config = yaml.safe_load(site.read_text())
    config["models"] = config["models"][:1]
    site.write_text(yaml.safe_dump(config))
    assert codes(run(site, "what-if", "--gpu", "rtx3090"))[0] == "KI255"


def test_bench_tells_what_is_wrong_with_the_model(site: Path) -> None:
    broken(site)
    with pytest.raises(ProblemsError) as caught:
        bench(read_view(site), "chat-max")
    assert [problem.code for problem in caught.value.problems] == ["KI255"]
    with pytest.raises(ProblemsError) as caught:
        bench(read_view(site), "chatt-max")
    assert [problem.code for problem in caught.value.problems] == ["KI445"]


def test_a_prompt_beyond_the_context_is_refused_before_anything_is_asked(site: Path) -> None:
    with pytest.raises(ProblemsError) as caught:
        bench(read_view(site), "chat-max", (512, 8161, 100_000))
    (problem,) = caught.value.problems
    assert problem.code == "KI446"
    assert "100000 tokens and 32 generated ones are more than the 8192 tokens" in problem.detail
    assert "--depth 8160" in problem.hint


@pytest.mark.parametrize("speed", [MeasuredSpeed(100.0, 1.0), MeasuredSpeed(1.0, 0.01)])
def test_factors_that_are_not_credible_are_not_written(site: Path, speed: MeasuredSpeed) -> None:
    view, before = read_view(site), site.read_text()
    found = Benched(view.placed[0], (), speed, ("big", "rtx3060"))
    with pytest.raises(ProblemsError) as caught:
        write_factors(site, view, found)
    (problem,) = caught.value.problems
    assert problem.code == "KI449"
    assert f"generate {speed.decode:g} times as fast as foreseen and to read {speed.prefill:g} " in problem.detail
    assert site.read_text() == before
    write_factors(site, view, replace(found, speed=MeasuredSpeed(0.9, 1.1)))
    assert "decode: 0.9" in site.read_text()


@pytest.mark.parametrize("tokens", ["1", "255", "10485761", "999999999999"])
def test_a_context_that_models_yaml_would_refuse_is_refused(site: Path, tokens: str) -> None:
    result = run(site, "what-if", "--context", tokens)
    assert result.exit_code == 2
    assert "256<=x<=10485760" in result.stderr


def test_a_context_beyond_the_training_is_warned_of(site: Path) -> None:
    result = run(site, "what-if", "--context", "131073", "--model", "chat")
    assert result.exit_code == 0
    assert "KI304" in result.stderr
    assert "chat was trained for 131072 tokens and gets 131073" in result.stderr
    assert "KI304" not in run(site, "what-if", "--context", "131072", "--model", "chat").stderr


def test_a_card_that_is_to_come_and_to_go_is_a_contradiction(site: Path) -> None:
    result = run(site, "what-if", "--gpu", "rtx3060:24GiB", "--without", "rtx3060")
    assert result.exit_code == 2
    assert "both name rtx3060" in result.stderr


def test_weights_that_are_none_are_refused_before_anything_is_started(site: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    absent = run(site, "verify", "chat", "--weights", other)
    assert (absent.exit_code, "does not exist" in absent.stderr) == (1, True)
    other.write_text("GGML")
    wrong = run(site, "verify", "chat", "--weights", other)
    assert (wrong.exit_code, "is no GGUF file" in wrong.stderr) == (1, True)
