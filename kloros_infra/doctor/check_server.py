"""Checks of llama-server: that it runs, and that it was built for the cards and the options of models.yaml."""

from __future__ import annotations

from collections.abc import Iterator

from kloros_infra.doctor.check import Finding, Kind, Status, fine, found, not_seen
from kloros_infra.doctor.check_driver import without_cards
from kloros_infra.doctor.driver_support import (
    for_cmake,
    has_machine_code,
    has_ptx,
    oldest_branch_of,
    shown,
    toolkit_for,
)
from kloros_infra.doctor.facts import Capability, CudaBuild, Driver, Facts, NeededCard, Unseen

NO_SERVER = "not looked at: nothing says which llama-server is to be used"
BUILD = '`cmake -B build -DGGML_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES="{architectures}" && cmake --build build -j`'

SERVER_BROKEN = Kind("KI947", Status.FAILURE, "Every model is run by llama-server.", "{fix}")
NO_CUDA = Kind(
    "KI948",
    Status.FAILURE,
    "Models are placed on cards by CUDA's names for them: without CUDA llama-server refuses to start, or uses the "
    "processor alone.",
    "Build llama.cpp with {toolkit}: " + BUILD + "; or name another program in hosts.<name>.llama_server.",
)
CARD_NOT_BUILT_FOR = Kind(
    "KI949",
    Status.FAILURE,
    "A build has code for the cards that it was told of. On any other it ends with `no kernel image is available`.",
    "Build llama.cpp with {toolkit}, which compiles for all of your cards: " + BUILD,
)
BUILD_TOO_NEW = Kind(
    "KI950",
    Status.FAILURE,
    "A build of a newer CUDA than the driver knows sees no card, and uses the processor.",
    "Update the driver to branch {branch} or later, or build llama.cpp with an older CUDA.",
)
OPTIONS_REFUSED = Kind(
    "KI951",
    Status.FAILURE,
    "llama-server ends at once when it is given an option that it does not know.",
    "Run `kloros-infra validate`, which says where each stands and what it may be called here.",
)
OVERRIDER_BROKEN = Kind(
    "KI952",
    Status.WARNING,
    "`kloros-infra lock` asks gguf-tensor-overrider for the placement of models with `placement: overrider`; what is "
    "locked already stays as it is.",
    "Run the words of hosts.<name>.tensor_overrider by hand with --version to see what is wrong.",
)
COMPILED_ON_THE_FLY = Kind(
    "KI976",
    Status.WARNING,
    "Where a build has no machine code for a card, the driver compiles it when a model is started, which may take "
    "minutes, and what comes out is seldom the fastest.",
    "Build llama.cpp with {toolkit} for your cards: " + BUILD,
)


def check_llama_server(facts: Facts) -> Iterator[Finding]:
    """Say whether llama-server runs."""
    server = facts.server
    if isinstance(server, Unseen):
        yield not_seen(server)
    elif server is None:
        yield fine(NO_SERVER)
    elif server.trouble:
        yield found(SERVER_BROKEN, server.trouble, fix=server.fix)
    else:
        yield fine(f"{server.path}, version {server.version}")


def check_cuda_build(facts: Facts) -> Iterator[Finding]:
    """Hold what llama-server was built for against the cards and the driver."""
    server, cards = facts.server, facts.wanted.cards
    if not cards:
        yield without_cards(facts)
    elif isinstance(server, Unseen):
        yield not_seen(server)
    elif server is None or server.trouble:
        yield fine("not looked at: llama-server does not run")
    elif isinstance(server.cuda, Unseen):
        yield not_seen(server.cuda)
    elif server.cuda is None:
        others = f", but {', '.join(server.other_devices)}" if server.other_devices else ""
        yield found(NO_CUDA, f"{server.path} was built without CUDA{others}", **_build_words(cards))
    else:
        problems = [*_missing_code(server.cuda, cards), *_driver_problems(server.cuda, facts.driver)]
        yield from problems or [fine(f"{server.cuda.file} has code for {_names(cards)}")]


def _missing_code(build: CudaBuild, cards: tuple[NeededCard, ...]) -> Iterator[Finding]:
    for card in cards:
        if card.capability is None or has_machine_code(build, card.capability):
            continue
        about = f"{card.name} (compute capability {shown(card.capability)})"
        kind = COMPILED_ON_THE_FLY if has_ptx(build, card.capability) else CARD_NOT_BUILT_FOR
        has = f"{build.file} has machine code for {_list(build.machine_code)}, PTX for {_list(build.ptx)}"
        yield found(kind, f"{has}: none for {about}", **_build_words(cards))


def _driver_problems(build: CudaBuild, driver: Driver | Unseen | None) -> Iterator[Finding]:
    oldest = oldest_branch_of(build)
    if isinstance(driver, Driver) and oldest is not None and driver.branch < oldest:
        detail = f"{build.file} needs CUDA {build.runtime}, and driver {driver.version} is older than {oldest}"
        yield found(BUILD_TOO_NEW, detail, branch=str(oldest))


def _build_words(cards: tuple[NeededCard, ...]) -> dict[str, str]:
    capabilities = [card.capability for card in cards if card.capability is not None]
    return {"toolkit": toolkit_for(capabilities), "architectures": for_cmake(capabilities) or "native"}


def _list(capabilities: tuple[Capability, ...]) -> str:
    return ", ".join(map(shown, capabilities)) or "nothing"


def _names(cards: tuple[NeededCard, ...]) -> str:
    return ", ".join(card.name for card in cards)


def check_options(facts: Facts) -> Iterator[Finding]:
    """Say whether llama-server knows the options that models.yaml gives it."""
    options = facts.options
    if not facts.wanted.has_models_file:
        yield fine("not asked: options are checked where models.yaml is")
    elif isinstance(options, Unseen):
        yield not_seen(options)
    elif options:
        more = f" (and {len(options) - 1} more)" if len(options) > 1 else ""
        yield found(OPTIONS_REFUSED, f"{options[0].code}: {options[0].detail}{more}")
    else:
        yield fine("no option is used that this build does not know")


def check_overrider(facts: Facts) -> Iterator[Finding]:
    """Say whether the external gguf-tensor-overrider runs, where it is used."""
    overrider = facts.overrider
    if not facts.wanted.uses_overrider:
        yield fine("not needed: hosts.<name>.tensor_overrider is not set")
    elif isinstance(overrider, Unseen):
        yield found(OVERRIDER_BROKEN, overrider.reason)
    else:
        yield fine(f"version {overrider}")
