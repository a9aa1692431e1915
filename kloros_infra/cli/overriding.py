"""Ask the external gguf-tensor-overrider for each instance that it places; keep its answers beside the lock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from kloros_infra.adapters.header_gguf import write_header
from kloros_infra.adapters.overrider_records import write_records
from kloros_infra.adapters.tensor_overrider import TIMEOUT_S, TensorOverrider
from kloros_infra.cli.project import Project
from kloros_infra.cli.wiring import compiler_sources
from kloros_infra.compiler.parse import Parsed, parse
from kloros_infra.compiler.pipeline import read_lock
from kloros_infra.compiler.placing import located
from kloros_infra.compiler.resolve import resolve
from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.errors import KlorosError, UnreachableError
from kloros_infra.ir.catalog import Catalog, Instance
from kloros_infra.ir.overrider_record import OverriderQuestion, OverriderRecord, record_from_json, record_to_json
from kloros_infra.placement.engines import overrider
from kloros_infra.placement.overrider_problems import not_configured, tool_failed
from kloros_infra.placement.overrider_question import question_of
from kloros_infra.placement.place import engine_of
from kloros_infra.placement.problems import address_of


@dataclass(frozen=True, slots=True)
class Recorded:
    """How many questions were asked, answered or not, how many files of records changed, and what went wrong."""

    asked: int = 0
    changed: int = 0
    problems: Problems = ()


def record_answers(project: Project, *, is_refresh: bool = False, timeout_s: float = TIMEOUT_S) -> Recorded:
    """Ask for what the records lack, or for everything.

    Where models.yaml has other errors nothing is asked: whatever compiles it next names them.
    """
    found = _resolved(project)
    if found is None:
        return Recorded()
    parsed, catalog = found
    asking = _Asking(catalog, {} if is_refresh else _known(project.overrider_records), timeout_s)
    kept: dict[str, str] = {}
    problems: list[Diagnostic] = []
    for instance in _overridden(catalog):
        try:
            kept[str(instance.id)] = record_to_json(asking.record(instance))
        except KlorosError as error:
            problems += (replace(problem, address=address_of(instance)) for problem in error.problems)
            # An answer to an earlier question says more than none: which one it was.
            kept |= {name: text for name, text in project.overrider_records.items() if name == str(instance.id)}
    changed = write_records(project.file.parent, kept)
    return Recorded(asking.count, len(changed), located(tuple(problems), parsed, catalog))


def check_answers(project: Project) -> Problems:
    """Find instances whose answer is missing or out of date, without asking anybody."""
    found = _resolved(project)
    if found is None:
        return ()
    parsed, catalog = found
    answers = (overrider.recorded_answer(one, project.overrider_records) for one in _overridden(catalog))
    return located(tuple(one for one in answers if isinstance(one, Diagnostic)), parsed, catalog)


def _resolved(project: Project) -> tuple[Parsed, Catalog] | None:
    sources = compiler_sources(project)
    parsed, _ = parse(sources.text, file=sources.file, parts=sources.parts)
    lock, _ = read_lock(sources)
    if parsed is None or lock is None:
        return None
    catalog, _ = resolve(parsed, lock)
    return (parsed, catalog) if catalog else None


def _overridden(catalog: Catalog) -> Iterator[Instance]:
    return (instance for instance in catalog.instances if engine_of(instance) is overrider.ENGINE)


def _known(records: Mapping[str, str]) -> dict[OverriderQuestion, OverriderRecord]:
    """Sort sound records by what was asked: instances that ask the same share an answer."""
    found = {}
    for text in records.values():
        try:
            record = record_from_json(text)
        except ValueError:
            continue
        found[record.question] = record
    return found


@dataclass
class _Asking:
    catalog: Catalog
    known: dict[OverriderQuestion, OverriderRecord]
    timeout_s: float
    count: int = 0
    _tool: TensorOverrider | None = None
    _version: str | None = None

    def record(self, instance: Instance) -> OverriderRecord:
        """Find or ask for an answer; raise a KlorosError where there is none."""
        question = question_of(instance)
        if question not in self.known:
            self.known[question] = self._asked(instance, question)
        return self.known[question]

    def _asked(self, instance: Instance, question: OverriderQuestion) -> OverriderRecord:
        words = self.catalog.tensor_overrider
        if not words:
            raise UnreachableError([not_configured(instance)])
        tool = self._tool = self._tool or TensorOverrider(words, timeout_s=self.timeout_s)
        self._version = self._version or tool.version()
        with TemporaryDirectory(prefix="kloros-header-") as folder:
            try:
                file = write_header(instance.model.weights.header, Path(folder) / "model.gguf")
            except ValueError as error:
                raise UnreachableError([tool_failed(" ".join(words), f"was not asked: {error}", [])]) from error
            self.count += not tool.is_given_up
            return OverriderRecord(question, self._version, tool.answer(question, [file]))
