"""`modelctl bench` measures a real llama-server, and writes what that says of its machine."""

from __future__ import annotations

import re
from typing import cast

import pytest

from kloros_infra.adapters.llama_bench import HttpBench
from kloros_infra.errors import UnreachableError
from tests.free_ports import free_ports
from tests.integration.conftest import SMOLLM2, Laptop, kloros_infra, modelctl, only

INSTANCE = "smollm2-cpu_only"
PROMPT = ("--depth", "16")


def shown_placement(laptop: Laptop) -> str:
    shown = kloros_infra("placement", "show", "--json", "--file", laptop.file)
    assert shown.returncode == 0, shown.stderr
    return shown.stdout


def test_where_no_server_listens_nothing_is_measured() -> None:
    (port,) = free_ports(1)
    with pytest.raises(UnreachableError) as caught:
        HttpBench(f"http://127.0.0.1:{port}", vocabulary=512).measured(16)
    (problem,) = caught.value.problems
    assert problem.code == "KI446"
    assert "Connection refused" in problem.detail


def test_an_instance_that_is_none_or_tells_nothing_is_refused(laptop: Laptop) -> None:
    laptop.edit(only(SMOLLM2))
    unknown = modelctl("bench", "smollm-cpu_only", "--file", laptop.file)
    assert unknown.returncode == 1
    assert "KI445" in unknown.stderr
    assert f"Did you mean '{INSTANCE}'?" in unknown.stderr
    laptop.file.write_text(laptop.file.read_text().replace("cost_tier: low", "kind: embedding"))
    told = modelctl("bench", INSTANCE, "--file", laptop.file)
    assert told.returncode == 1
    assert "KI447" in told.stderr


@pytest.mark.real_model
def test_what_was_measured_is_written_into_models_yaml_and_counts(laptop: Laptop) -> None:
    laptop.edit(only(SMOLLM2))
    assert laptop.apply("--only", "smollm2").returncode == 0
    before = shown_placement(laptop)

    for _ in range(2):  # a new key first, then new values of it
        written = modelctl("bench", INSTANCE, "--file", laptop.file, *PROMPT, "--write")
        assert written.returncode == 0, written.stderr
        assert re.search(r"^16( +[\d.]+){4}$", written.stdout, re.MULTILINE)
        assert re.search(r"^hosts\.laptop\.measured: {decode: [\d.]+, prefill: ", written.stdout, re.MULTILINE)
        hosts = cast("dict[str, dict[str, dict[str, float]]]", laptop.document()["hosts"])
        assert set(hosts["laptop"]["measured"]) == {"decode", "prefill"}
    assert shown_placement(laptop) != before
