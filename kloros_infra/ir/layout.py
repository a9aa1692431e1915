"""Where things live on a target machine."""

from __future__ import annotations

from dataclasses import dataclass

from kloros_infra.ir.split_gguf import SplitName

MMPROJ_FILE = "mmproj.gguf"


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths of an installation.

    `prefix` is empty on a real machine. An installation under the embedded supervisor lives wholly
    below a folder, which is then the prefix: its processes are not in a chroot, so the texts of its
    unit and env files name the real place. Paths *inside an ArtifactTree* are relative and never
    carry the prefix; paths *inside texts* come from `absolute`.

    What lies below `current` is the content of a generation: `current` is a link to `generations/<number>`, and
    replacing that link changes all of it at once. Every other path is a fixed file, written where it stands.
    Before there were generations, unit files stood in `former_units`, and the routing table in `former_routing`.
    """

    prefix: str = ""

    generations: str = "etc/kloros-infra/generations"
    current: str = "etc/kloros-infra/current"
    last_good: str = "etc/kloros-infra/last-good"
    units: str = "etc/kloros-infra/current/units"
    env: str = "etc/kloros-infra/current/env"
    routing: str = "etc/kloros-infra/current/routing.json"
    programs: str = "etc/kloros-infra/current/bin"
    generator: str = "etc/systemd/system-generators/kloros-infra"
    tmpfiles: str = "etc/tmpfiles.d/kloros-infra.conf"
    sysusers: str = "etc/sysusers.d/kloros-infra.conf"
    polkit: str = "etc/polkit-1/rules.d/50-kloros-infra.rules"
    udev_rules: str = "etc/udev/rules.d/70-kloros-infra.rules"
    lockout_file: str = "etc/kloros/gpu_lockout"
    lockout_folder: str = "etc/kloros/gpu_lockouts.d"
    pin_file: str = "etc/kloros/gpu_pin"
    former_units: str = "etc/systemd/system"
    former_routing: str = "etc/kloros-infra/routing.json"
    weights: str = "var/lib/llama-models"
    state: str = "var/lib/kloros-infra"
    logs: str = "var/log/kloros-infra"
    run: str = "run/kloros"
    router_state: str = "var/lib/kloros-router"
    router_run: str = "run/kloros-router"

    @property
    def has_systemd(self) -> bool:
        """Say whether systemd and udev serve the installation: below a prefix, the embedded supervisor does."""
        return not self.prefix

    def absolute(self, relative: str) -> str:
        """Say how a process on the target names a path of this layout."""
        return f"{self.prefix}/{relative}"

    def unit_path(self, unit: str) -> str:
        return f"{self.units}/{unit}"

    def unit_at(self, path: str) -> str | None:
        """Say which unit's file a relative path is, None for links and drop-ins beside it."""
        folder, _, name = path.rpartition("/")
        return name if folder in (self.units, self.former_units) else None

    def override_path(self, unit: str) -> str:
        """Say where a file lies that systemd takes in place of ours: a mask, or a unit of the same name."""
        return f"{self.former_units}/{unit}"

    def is_content(self, path: str) -> bool:
        """Say whether a path is part of a generation, and not a fixed file."""
        return path.startswith(f"{self.current}/")

    def content_name(self, path: str) -> str:
        """Name a file of a generation as seen from its folder."""
        return path.removeprefix(f"{self.current}/")

    def content_path(self, name: str) -> str:
        """Say where a file of a generation is seen while that one is current."""
        return f"{self.current}/{name}"

    def generation_path(self, number: int) -> str:
        return f"{self.generations}/{number}"

    def weights_path(self, model_id: str, version_id: str, *, parts: int = 1) -> str:
        """Say where a version's weights file, or the first of several, is kept (design document, section 5.2)."""
        stem = f"{self.weights}/{model_id}/{version_id}/model"
        return f"{stem}.gguf" if parts == 1 else str(SplitName(stem, 1, parts))

    def mmproj_path(self, model_id: str, version_id: str) -> str:
        """Say where the projector of a version is kept: beside its weights."""
        return f"{self.weights}/{model_id}/{version_id}/{MMPROJ_FILE}"

    def program_path(self, program: str) -> str:
        return f"{self.programs}/{program}"

    @property
    def profile_file(self) -> str:
        """Name the file that says which profile is active."""
        return f"{self.run}/gpu_profile"

    @property
    def dirty_file(self) -> str:
        """Name the flag that stands while facts about cards may have changed since they were last looked at."""
        return f"{self.run}/dirty"

    @property
    def cards_file(self) -> str:
        """Name the file that says how each card stands, and why the active profile is (ir.cards_report)."""
        return f"{self.run}/gpu_cards.json"

    @property
    def topology_file(self) -> str:
        """Name the memory of the choice of profiles."""
        return f"{self.run}/gpu_topology.json"

    @property
    def hardware_memory(self) -> str:
        """Name the memory of what differs between the cards that are there and those that were compiled for."""
        return f"{self.run}/gpu_hardware.json"

    @property
    def hardware_record(self) -> str:
        """Name the file that says what came of a change of the cards (ir.hardware_record)."""
        return f"{self.state}/hardware.json"

    @property
    def hardware_plan(self) -> str:
        """Name the plan that was made for cards that have changed."""
        return f"{self.state}/hardware.plan"

    @property
    def faults_file(self) -> str:
        """Name the record of what the driver reported of cards since boot."""
        return f"{self.run}/gpu_faults.json"

    @property
    def cleared_file(self) -> str:
        """Name the record of when each card's faults were declared to be of the past."""
        return f"{self.run}/gpu_cleared.json"

    @property
    def reconcile_lock(self) -> str:
        """Name the lock that one reconcile at a time holds."""
        return f"{self.run}/reconcile.lock"

    @property
    def leases_file(self) -> str:
        """Name the router's journal of allocations."""
        return f"{self.router_state}/leases.jsonl"

    @property
    def answers_file(self) -> str:
        """Name the router's journal of answered requests."""
        return f"{self.router_state}/answers.log"

    @property
    def control_socket(self) -> str:
        """Name the socket at which the router is told to start and stop models."""
        return f"{self.router_run}/control.sock"

    @property
    def booted_file(self) -> str:
        """Name the file that says which generation was current when the machine booted."""
        return f"{self.run}/booted"
