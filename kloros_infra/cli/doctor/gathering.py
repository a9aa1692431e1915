"""Gather all facts at once: each has a deadline, and what does not answer keeps nothing else from being seen."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from kloros_infra.adapters.kernel_settings import kernel_limits
from kloros_infra.adapters.nvidia_devices import read_devices
from kloros_infra.adapters.wall_clock import is_clock_right
from kloros_infra.cli.doctor.answers import Question
from kloros_infra.cli.doctor.card_facts import (
    Kernel,
    see_cards,
    see_driver,
    see_options,
    see_overrider,
    see_server,
)
from kloros_infra.cli.doctor.installation_facts import see_choice, see_generation, see_units
from kloros_infra.cli.doctor.machine_facts import see_machine, see_room
from kloros_infra.cli.doctor.network_facts import see_bus, see_ports, see_router
from kloros_infra.cli.doctor.project_view import View, view_project
from kloros_infra.cli.wiring import ManagerChoice, Target
from kloros_infra.doctor.facts import Facts, Unseen, Wanted

COMPILE_S = 120.0
"""A thousand models are placed anew."""
ANSWER_S = 10.0
SERVER_S = 30.0
"""A build for CUDA loads some gigabytes of libraries from a cold disk before it says a word."""


def gather(file: Path | None, where: Target, kernel: Kernel | None = None) -> Facts:
    """Look at everything; where it is not known in time what is wanted, at the machine alone."""
    seen = Question(partial(view_project, file, where), COMPILE_S).answer()
    wanted = Wanted(has_systemd=where.manager is ManagerChoice.SYSTEMD)
    view = View(where, wanted, installed=seen) if isinstance(seen, Unseen) else seen
    return gather_for(view, kernel or Kernel())


def gather_for(view: View, kernel: Kernel) -> Facts:
    """Look at everything beside what is wanted."""
    driver = Question(partial(see_driver, kernel), ANSWER_S)
    cards = Question(partial(see_cards, view, kernel), ANSWER_S)
    devices = Question(partial(read_devices, procfs=kernel.procfs), ANSWER_S)
    server = Question(partial(see_server, view), SERVER_S)
    options = Question(partial(see_options, view), SERVER_S)
    overrider = Question(partial(see_overrider, view), ANSWER_S)
    machine = Question(partial(see_machine, kernel), ANSWER_S)
    limits = Question(partial(kernel_limits, kernel.procfs), ANSWER_S)
    is_right = Question(is_clock_right, ANSWER_S)
    room = Question(partial(see_room, view), ANSWER_S)
    generation = Question(partial(see_generation, view), SERVER_S)
    units = Question(partial(see_units, view), ANSWER_S)
    choice = Question(partial(see_choice, view), ANSWER_S)
    ports = Question(partial(see_ports, view), ANSWER_S)
    bus = Question(partial(see_bus, view), ANSWER_S)
    router = Question(partial(see_router, view), ANSWER_S)
    return Facts(
        wanted=view.wanted,
        driver=driver.answer(),
        cards=cards.answer(),
        devices=devices.answer(),
        server=server.answer(),
        options=options.answer(),
        overrider=overrider.answer(),
        machine=machine.answer(),
        limits=limits.answer(),
        is_clock_right=is_right.answer(),
        room=room.answer(),
        generation=generation.answer(),
        units=units.answer(),
        choice=choice.answer(),
        ports=ports.answer(),
        bus=bus.answer(),
        router=router.answer(),
    )
