"""A compile with a cache gives what one without gives, whatever changed in between and whatever the cache holds."""

from __future__ import annotations

import functools
import pickle
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from kloros_infra.adapters.templates import read_templates
from kloros_infra.compiler.cached_compile import compile_cached
from kloros_infra.compiler.compile_cache import CompileCache
from kloros_infra.compiler.compiled import Compiled
from kloros_infra.compiler.kept_instances import KeptInstances, Known
from kloros_infra.compiler.kept_values import from_bytes, to_bytes
from kloros_infra.compiler.pipeline import compile_project
from kloros_infra.compiler.shelf import FEWEST_INSTANCES, Shelf, digests_of
from kloros_infra.compiler.sources import Sources
from kloros_infra.compiler.surroundings import surroundings
from kloros_infra.errors import ProblemsError
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.lock import Lock
from tests.fakes.compile_cache import MemoryCache
from tests.many_models import MODELS, ManyModels

TEMPLATES = read_templates()
LOCK, INSTANCES, WHOLE = "lock", "instances ", "whole "
CHANGES: dict[str, st.SearchStrategy[object]] = {
    "models": st.integers(MODELS - 3, MODELS + 2),
    "cards": st.sampled_from([("big", "old"), ("old", "big"), ("big",), ("old",)]),
    "vram_gib": st.sampled_from([4, 12, 16]),
    "port": st.sampled_from([9100, 9500]),
    "context_tokens": st.sampled_from([2048, 4096, 32768]),
    "display_name": st.sampled_from(["First", "Erstes"]),
    "placement": st.sampled_from(["auto", "fit", "manual"]),
    "shares": st.sampled_from([(), (70, 30), (50, 50)]),
    "cache_type": st.sampled_from(["f16", "q8_0", "q5_0"]),
    "preload": st.booleans(),
    "temperature": st.sampled_from([0.5, 1.0]),
    "headroom_gib": st.integers(1, 3),
    "read_only_path": st.sampled_from(["/opt/driver", "/opt/other"]),
    "vocabulary": st.sampled_from([32000, 152064]),
    "sha256": st.sampled_from(["ab" * 32, "cd" * 32]),
    "has_draft": st.booleans(),
    "is_persona_named": st.booleans(),
    "profiles": st.sampled_from([("gpu", "cpu_only"), ("gpu", "half", "cpu_only"), ("cpu_only",)]),
    "has_all_ports": st.booleans(),
}
PROJECTS = st.fixed_dictionaries({}, optional=CHANGES).map(lambda changes: replace(ManyModels(), **changes))  # type: ignore[arg-type]


def outcome(compiled: Compiled) -> str:
    """Write down all that a compile gave, types and order included."""
    return repr([*(getattr(compiled, field.name) for field in fields(Compiled))])


def cached(sources: Sources, cache: CompileCache, prefix: str = "", templates: Mapping[str, str] = TEMPLATES) -> str:
    """Compile with a cache; what is wrong is an outcome, too."""
    try:
        return outcome(compile_cached(sources, templates, layout=Layout(prefix=prefix), cache=cache))
    except ProblemsError as error:
        return repr(error.problems)


def anew(sources: Sources, prefix: str = "", templates: Mapping[str, str] = TEMPLATES) -> str:
    """Compile without a cache."""
    try:
        return outcome(compile_project(sources, templates, layout=Layout(prefix=prefix)))
    except ProblemsError as error:
        return repr(error.problems)


@functools.cache
def slots_of(project: ManyModels) -> Mapping[str, tuple[str, bytes]]:
    """Compile a project and give what is kept of it."""
    kept = MemoryCache()
    cached(project.sources(), kept)
    assert sorted(kept.slots) == [INSTANCES, LOCK, WHOLE]
    return kept.slots


def filled(project: ManyModels = ManyModels()) -> MemoryCache:  # noqa: B008 - it is frozen
    """Give a cache that holds a project."""
    return MemoryCache(dict(slots_of(project)))


@functools.cache
def standard() -> str:
    """Compile the project that nothing is changed in."""
    return anew(ManyModels().sources())


# Making a failure smaller would take minutes; the tests below say which setting it is.
@pytest.mark.untraced
@settings(max_examples=6, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(st.lists(st.tuples(PROJECTS, st.sampled_from(["", "/srv/a"])), min_size=2, max_size=3))
def test_whatever_changes_shows(projects: list[tuple[ManyModels, str]]) -> None:
    cache = MemoryCache()

    for project, prefix in projects:
        sources = project.sources()
        assert cached(sources, cache, prefix) == anew(sources, prefix)


@pytest.mark.untraced
@pytest.mark.parametrize(
    "changed",
    [
        {"context_tokens": 2048},
        {"port": 9500},
        {"display_name": "Erstes"},
        {"vram_gib": 12},
        {"cards": ("old", "big")},
        {"placement": "manual", "shares": (70, 30)},
        {"cache_type": "q8_0"},
        {"preload": True},
        {"headroom_gib": 2},
        {"read_only_path": "/opt/other"},
        {"vocabulary": 32000},
        {"sha256": "cd" * 32},
        {"has_draft": True},
        {"is_persona_named": True},
        {"profiles": ("cpu_only",)},
        {"profiles": ("gpu", "half"), "cards": ("old",), "has_all_ports": False},
        {"models": MODELS + 1},
        {"models": MODELS - 1},
    ],
    ids=",".join,
)
def test_each_setting_shows_at_once(changed: dict[str, object]) -> None:
    cache = filled()
    sources = replace(ManyModels(), **changed).sources()  # type: ignore[arg-type]

    found = cached(sources, cache)

    assert found == anew(sources)
    assert found != standard()


@pytest.mark.untraced
def test_templates_show_at_once() -> None:
    cache, sources = filled(), ManyModels().sources()
    # The others are parts of templates, and begin in the middle of a section.
    whole = [name for name in TEMPLATES if name not in ("loopback.j2", "sandbox.j2")]
    templates = {**TEMPLATES, **{name: f"{TEMPLATES[name]}# {name}\n" for name in whole}}

    found = cached(sources, cache, templates=templates)

    assert found == anew(sources, templates=templates) != standard()


@pytest.mark.parametrize("name", TEMPLATES)
def test_nothing_that_was_kept_counts_for_another_template(name: str) -> None:
    sources, changed = ManyModels().sources(), {**TEMPLATES, name: f"{TEMPLATES[name]}#"}
    before, after = (digests_of(sources, templates, Layout()) for templates in (TEMPLATES, changed))

    assert after.lock == before.lock
    assert (after.shared == before.shared, after.whole == before.whole) == (False, False)


@pytest.mark.untraced
def test_places_on_the_target_show_at_once() -> None:
    cache, sources = filled(), ManyModels().sources()
    layout = replace(Layout(), weights="srv/models")

    found = outcome(compile_cached(sources, TEMPLATES, layout=layout, cache=cache))

    assert found == outcome(compile_project(sources, TEMPLATES, layout=layout)) != standard()


def test_what_nothing_differs_from_is_found_whole() -> None:
    cache = filled()

    cached(ManyModels().sources(), cache)

    assert cache.found == [LOCK, WHOLE]
    assert cache.written == []


def test_all_but_the_changed_instances_are_found() -> None:
    cache, before = filled(), instances_of(filled())

    cached(ManyModels(context_tokens=2048).sources(), cache)

    assert cache.found == [LOCK, INSTANCES]
    assert cache.written == [INSTANCES, WHOLE]
    after = instances_of(cache)
    assert len(after) == len(before) == 2 * MODELS
    assert len(after.keys() - before.keys()) == 2


def test_what_is_digested_shows_all_that_it_holds() -> None:
    """A field that a dataclass does not show could differ under the same digest; one that it does not take is lost."""
    sources = ManyModels(has_draft=True).sources()
    compiled = compile_cached(sources, TEMPLATES, layout=Layout(), cache=MemoryCache())

    kinds = set(kinds_in((compiled, Layout(), surroundings(compiled.catalog, compiled.placements))))

    assert {"Instance", "LockedWeights", "TensorGroup", "Sandbox", "Draft", "Card"} <= {kind.__name__ for kind in kinds}
    for kind in kinds:
        assert all(field.repr and field.compare and field.init and not field.kw_only for field in fields(kind)), kind


def kinds_in(value: object) -> Iterator[type]:
    """List the dataclasses of all values in a value."""
    if is_dataclass(value) and not isinstance(value, type):
        yield type(value)
        for field in fields(value):
            yield from kinds_in(getattr(value, field.name))
    elif isinstance(value, tuple):
        for one in value:
            yield from kinds_in(one)
    elif isinstance(value, Mapping):
        for one in (*value, *value.values()):
            yield from kinds_in(one)


def instances_of(cache: MemoryCache) -> dict[str, object]:
    """Read what is kept of instances."""
    found = from_bytes(cache.slots[INSTANCES][1])
    assert isinstance(found, KeptInstances)
    return dict(found.texts)


def test_what_touches_no_instance_leaves_them_as_they_are() -> None:
    cache = filled()

    cached(ManyModels(is_persona_named=True).sources(), cache)

    assert cache.written == [WHOLE]


def test_a_lock_that_differs_leaves_other_instances_as_they_are() -> None:
    cache = filled()
    before = instances_of(cache)

    cached(ManyModels(sha256="cd" * 32).sources(), cache)

    assert cache.written == [LOCK, INSTANCES, WHOLE]
    assert len(instances_of(cache).keys() & before.keys()) == 2 * MODELS - 2


def test_warnings_of_a_placement_are_kept_with_it() -> None:
    project = ManyModels(cache_type="q5_0")
    cache = filled(project)
    changed = replace(project, is_persona_named=True).sources()

    found = cached(changed, cache)

    assert cache.found == [LOCK, INSTANCES]
    assert "KI406" in found
    assert found == anew(changed)


def test_nothing_is_kept_of_what_is_wrong() -> None:
    cache = MemoryCache()
    sources = ManyModels(vram_gib=4, placement="manual", shares=(99, 1)).sources()

    assert "KI401" in cached(sources, cache) == anew(sources)
    assert cache.slots == {}


def test_nothing_is_kept_of_a_small_project() -> None:
    cache = MemoryCache()
    sources = ManyModels(models=FEWEST_INSTANCES // 2 - 1).sources()

    assert cached(sources, cache) == anew(sources)
    assert cache.slots == {}


def test_a_small_project_with_experts_is_worth_keeping() -> None:
    cache = MemoryCache()
    sources = ManyModels(models=2, experts=8).sources()

    assert cached(sources, cache) == anew(sources)
    assert len(cache.slots) == 3


def test_without_a_cache_nothing_is_found_or_kept() -> None:
    sources = ManyModels().sources()
    shelf = Shelf(None, digests_of(sources, TEMPLATES, Layout()), "")

    compiled = compile_cached(sources, TEMPLATES, layout=Layout(), cache=None)
    shelf.keep(compiled, Lock({}), KeptInstances())

    assert outcome(compiled) == standard()
    assert shelf.whole() is None
    assert shelf.known(compiled.catalog) == Known()


@pytest.mark.untraced
def test_a_missing_lock_is_not_an_empty_one() -> None:
    cache = filled()
    sources = ManyModels().sources()
    for text in (None, ""):
        without = replace(sources, lock_text=text, headers={})
        assert cached(without, cache) == anew(without)


@pytest.mark.untraced
def test_the_order_of_included_files_counts() -> None:
    sources = ManyModels().sources()
    head, _, models = sources.text.partition("models:\n")
    one, _, other = models.partition("- id: m01\n")
    parts = {"a.yaml": f"models:\n{one}", "b.yaml": f"models:\n- id: m01\n{other}"}
    cache, found = MemoryCache(), []
    for order in (("a.yaml", "b.yaml"), ("b.yaml", "a.yaml")):
        split = replace(sources, text=f"include: ['*.yaml']\n{head}", parts={name: parts[name] for name in order})
        found.append(cached(split, cache))
        assert found[-1] == anew(split)
    assert WHOLE in cache.slots
    assert found[0] != found[1]


class Trap:
    """A value that runs code where a pickle is read without care."""

    sprung = False

    @classmethod
    def spring(cls) -> None:
        cls.sprung = True

    def __reduce__(self) -> tuple[object, tuple[()]]:
        return (Trap.spring, ())


WRONG = {
    "nothing": b"",
    "no pickle": b"\x80\x05garbage",
    "cut off": to_bytes(KeptInstances())[:-1],
    "another value": to_bytes(KeptInstances()),
    "a plain value": pickle.dumps({"a": 1}),
    "code": pickle.dumps(Trap()),
    "a function": pickle.dumps(from_bytes),
    "a module's function": b"\x80\x05cos\nsystem\n\x8c\x04true\x85R.",
    "a name with dots": b"\x80\x05\x8c\x14kloros_infra.ir.plan\x8c\x0fPlan.__init__.a\x93.",
    "another module": b"cthis\ns\n.",
    "no class": b"\x80\x05\x8c\x14kloros_infra.ir.plan\x8c\x04Step\x93.",
    "weights that nobody has": b"\x80\x05\x8c\x01aQ.",
}


@pytest.mark.parametrize(
    "slot", [LOCK, *(pytest.param(slot, marks=pytest.mark.untraced) for slot in (INSTANCES, WHOLE))]
)
@pytest.mark.parametrize("data", WRONG.values(), ids=WRONG)
def test_what_cannot_be_read_is_worked_out_anew(slot: str, data: bytes) -> None:
    cache, sources = filled(), ManyModels(is_persona_named=slot == INSTANCES).sources()
    digest, _ = cache.slots[slot]
    if slot == INSTANCES and data == WRONG["another value"]:
        return  # there it is what belongs there
    cache.slots[slot] = (digest, data)

    assert cached(sources, cache) == anew(sources)

    assert slot in cache.written
    assert type(from_bytes_of(cache, slot)) is type(from_bytes_of(filled(), slot))
    assert not Trap.sprung
    assert "this" not in sys.modules


def from_bytes_of(cache: MemoryCache, slot: str) -> object:
    """Read a slot; the whole names weights of the lock."""
    lock = from_bytes(cache.slots[LOCK][1])
    return from_bytes(cache.slots[slot][1], getattr(lock, "weights", {}))
