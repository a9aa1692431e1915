"""A change of the cards is followed once it has lasted, and once only; what is over is followed, too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kloros_infra.cli.detecting import detect
from kloros_infra.cli.hardware_watch import HardwareWatch, read_record
from kloros_infra.cli.project import read_project
from kloros_infra.cli.wiring import Target
from kloros_infra.ir.card_facts import CardReading, DriverReading
from kloros_infra.ir.detected_card import DetectedCard, SeenDevice
from kloros_infra.ir.hardware_record import HardwareOutcome, HardwareRecord
from kloros_infra.ir.routing import RoutedCard, RoutedProfile, RoutingTable
from tests.factories import a_routed_model, a_routing_table
from tests.tiny_site import target_at
from tests.unit.adapters.test_pci import INFORMATION, UUID, Machine

CARD = RoutedCard(name="rtx3060", uuid=UUID, pci="0000:04:00.0", vram_mib=11906)
READING = CardReading("rtx3060", UUID, "0000:04:00.0", 12288 * 2**20)
SMALLER = replace(READING, total_bytes=8192 * 2**20)
WORDS = "rtx3060 has 8.0 GiB of memory, and was declared with 11.6 GiB"


def a_table(card: RoutedCard = CARD, *unused: RoutedCard) -> RoutingTable:
    profiles = (RoutedProfile(name="max", cards=(card,)),)
    table = a_routing_table(a_routed_model("small"))
    return table.model_copy(update={"profiles": profiles, "unused_cards": unused})


class Scene:
    """A watch on a made machine, and how often it had a plan made."""

    def __init__(self, folder: Path, *, settle_s: float = 0.0) -> None:
        self.machine = Machine(folder)
        self.where: Target = target_at(folder / "root")
        self.starts = 0
        self.can_start = True
        self._settle_s = settle_s

    def look(self, *readings: CardReading, table: RoutingTable | None = None, is_stale: bool = False) -> list[str]:
        """Reconcile as another process would: nothing is remembered but in files."""
        watch = HardwareWatch(
            self.where,
            sysfs=self.machine.sysfs,
            procfs=self.machine.procfs,
            settle_s=self._settle_s,
            start=self._start,
        )
        found = watch.changes(table or a_table(), DriverReading(readings, is_stale=is_stale))
        watch.follow(found)
        return list(found)

    def _start(self) -> bool:
        self.starts += 1
        return self.can_start


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    found = Scene(tmp_path)
    found.machine.plug("0000:04:00.0")
    found.machine.drive("0000:04:00.0")
    return found


def test_cards_as_they_were_compiled_for_are_nothing_to_do(scene: Scene) -> None:
    assert scene.look(READING) == []
    assert scene.starts == 0


def test_a_change_is_planned_once_until_it_is_another(scene: Scene) -> None:
    assert [scene.look(SMALLER) for _ in range(3)] == [[WORDS]] * 3
    assert scene.starts == 1
    scene.look(replace(SMALLER, total_bytes=6144 * 2**20))
    assert scene.starts == 2


def test_what_is_over_has_its_plan_taken_back_once(scene: Scene) -> None:
    scene.look(SMALLER)
    assert [scene.look(READING) for _ in range(2)] == [[], []]
    assert scene.starts == 2


def test_a_card_that_is_away_or_silent_is_taken_to_be_as_it_was(scene: Scene) -> None:
    scene.look(SMALLER)
    assert scene.look() == [WORDS]
    assert scene.look(READING, is_stale=True) == [WORDS]
    assert scene.look(replace(READING, total_bytes=None)) == [WORDS]
    assert scene.starts == 1


def test_what_is_planned_while_another_card_is_away_is_planned_with_it_once_that_is_back(scene: Scene) -> None:
    scene.look(SMALLER)
    new = SeenDevice("0000:09:00.0")
    scene.machine.plug(new.pci)
    told = f"a card at {new.pci} is not in models.yaml"
    assert scene.look() == [told, WORDS]
    assert scene.starts == 2
    scene.look()
    assert scene.starts == 2
    assert scene.look(SMALLER) == [WORDS, told]
    assert scene.starts == 3


def test_a_change_of_a_card_that_is_away_waits_until_it_is_back(scene: Scene) -> None:
    scene.can_start = False
    scene.look(SMALLER)
    assert scene.look() == [WORDS]
    assert scene.starts == 1
    scene.can_start = True
    scene.look(SMALLER)
    assert scene.starts == 2


def test_a_table_for_the_cards_that_are_there_ends_it(scene: Scene) -> None:
    scene.look(SMALLER)
    assert scene.look(table=a_table(CARD.model_copy(update={"vram_mib": 8192}))) == []


def test_a_change_that_does_not_last_is_not_planned(tmp_path: Path) -> None:
    scene = Scene(tmp_path, settle_s=60.0)
    assert scene.look(SMALLER) == scene.look(SMALLER) == [WORDS]
    scene.look(READING)
    assert scene.starts == 0


def test_what_could_not_be_started_is_started_again(scene: Scene) -> None:
    scene.can_start = False
    scene.look(SMALLER)
    scene.can_start = True
    scene.look(SMALLER)
    scene.look(SMALLER)
    assert scene.starts == 2


def test_a_watch_that_has_not_looked_follows_nothing(scene: Scene) -> None:
    HardwareWatch(scene.where, start=scene._start).follow(("something",))
    assert scene.starts == 0


def test_what_became_of_it_is_told_beside_it(scene: Scene) -> None:
    record = HardwareRecord(changes=(WORDS,), made_at="", outcome=HardwareOutcome.PLANNED, plan="/var/hardware.plan")
    file = scene.where.root / scene.where.layout.hardware_record
    file.parent.mkdir(parents=True)
    file.write_text(record.model_dump_json())
    assert read_record(scene.where) == record
    sentence = "a plan that takes it up waits: `kloros-infra apply /var/hardware.plan`"
    assert [scene.look(SMALLER) for _ in range(2)] == [[WORDS, sentence]] * 2
    assert scene.starts == 1
    assert scene.look(replace(SMALLER, total_bytes=6144 * 2**20)) == [WORDS.replace("8.0", "6.0")]


def test_a_card_that_no_profile_needs_is_declared_all_the_same(scene: Scene) -> None:
    other = RoutedCard(name="spare", uuid=None, pci="0000:09:00.0")
    scene.machine.plug("0000:09:00.0")
    (new,) = scene.look(READING)
    assert new == "a card at 0000:09:00.0 is not in models.yaml"
    assert scene.look(READING, table=a_table(CARD, other)) == []


MODELS_YAML = """\
version: 1
hosts: {{box: {{}}, far: {{role: remote}}}}
gpus:
  rtx3060: {{host: box, uuid: {uuid}, vram: 12GiB}}
  elsewhere: {{host: far, pci: "0000:04:00.0", name: rtx3060}}
profiles: {{max: {{gpus: [rtx3060]}}}}
models:
  - id: small
    display_name: Small
    purpose_tags: [fast]
    context_tokens: 2048
    cost_tier: low
    versions: [{{version_id: "1", gguf_url: file:///weights/small.gguf}}]
    profiles: {{max: {{port: 8601}}}}
"""


def test_declared_cards_are_found_and_others_are_told_with_the_line_that_declares_them(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    for address in ("0000:04:00.0", "0000:07:00.0", "0000:09:00.0"):
        machine.plug(address)
    machine.drive("0000:04:00.0")
    machine.drive("0000:07:00.0", uuid="GPU-second")
    facts = machine.procfs / "driver/nvidia/gpus/0000:09:00.0"
    facts.mkdir()
    text = INFORMATION.format(uuid="GPU-third", excluded="No")
    (facts / "information").write_text(text.replace("GeForce RTX 3060", "Something"))
    file = tmp_path / "models.yaml"
    file.write_text(MODELS_YAML.format(uuid=UUID))

    found = detect(read_project(file), sysfs=machine.sysfs, procfs=machine.procfs)

    assert found.cards == (DetectedCard("rtx3060", UUID, "0000:04:00.0", None, "NVIDIA GeForce RTX 3060"),)
    second, third = (problem for problem in found.problems if problem.code == "KI925")
    assert second.detail == "NVIDIA GeForce RTX 3060 at 0000:07:00.0 is in this machine, and nothing uses it."
    assert second.hint.endswith(
        'rtx3060-2: {host: box, uuid: GPU-second, pci: "0000:07:00.0", name: "NVIDIA GeForce RTX 3060"}'
    )
    assert "KI928" not in {problem.code for problem in found.problems}
    assert third.hint.endswith(
        'something: {host: box, uuid: GPU-third, pci: "0000:09:00.0", name: "NVIDIA Something", vram: …, bandwidth: …,'
        " compute_capability: …}"
    )


def test_what_to_write_is_told_where_a_card_is_not_as_it_is_declared(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.plug("0000:07:00.0")
    machine.drive("0000:07:00.0", uuid="GPU-other")
    file = tmp_path / "models.yaml"
    declared = MODELS_YAML.format(uuid=UUID).replace("vram: 12GiB", 'pci: "0000:07:00.0", name: rtx5080')
    file.write_text(declared)

    found = detect(read_project(file), sysfs=machine.sysfs, procfs=machine.procfs)

    (problem,) = (problem for problem in found.problems if problem.code == "KI928")
    assert problem.detail == (
        "In the place of rtx3060, 0000:07:00.0, there is another card: NVIDIA GeForce RTX 3060, GPU-other."
    )
    assert 'gpus.rtx3060: uuid: GPU-other, name: "NVIDIA GeForce RTX 3060", with its figures or none' in problem.hint
