"""What a user types for weights on Hugging Face → a repository → the file in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kloros_infra.compiler.printable import printable
from kloros_infra.compiler.suggest import closest, listed
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.split_gguf import split_name

PREFERRED = ("Q4_K_M", "Q4_0")
"""Quantizations to take where none is named, the first that there is: what llama.cpp and Ollama take too."""

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_REFERENCE = re.compile(
    r"(?:hf://|(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/)?"
    rf"(?P<repository>{_NAME}/{_NAME}?)(?:@(?P<revision>{_NAME}))?"
    r"(?::(?P<quantization>[A-Za-z0-9_-]+))?"
    rf"(?:/(?:(?:resolve|blob|tree)/(?P<branch>{_NAME}))?/?(?P<file>[A-Za-z0-9._/-]*))?(?:\?.*)?"
)
_QUANTIZATION = re.compile(
    r"(?:^|[-._])((?:UD-)?(?:(?:IQ|TQ|Q)[0-9]+(?:_[A-Z0-9]+)*|BF16|FP?16|FP?32|MXFP4(?:_MOE)?))(?=[-.]|$)",
    re.IGNORECASE,
)
_NEWEST = frozenset(("main", "latest"))


@dataclass(frozen=True, slots=True)
class HubReference:
    """A repository, and what of it was named: a revision, a file or a quantization."""

    repository: str
    revision: str | None = None
    file: str | None = None
    quantization: str | None = None

    def url(self, file: str) -> str:
        """Write a file of it as a source of weights."""
        revision = f"@{self.revision}" if self.revision else ""
        return f"hf://{self.repository}{revision}/{file}"


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file in a repository."""

    path: str
    size_bytes: int

    @property
    def quantization(self) -> str | None:
        """Read the quantization from the file's name, or from its folder's."""
        for name in reversed(self.path.removesuffix(".gguf").split("/")):
            found = _QUANTIZATION.findall(name)
            if found:
                return (
                    str(found[-1]).upper().replace("FP", "F") if "MXFP" not in found[-1].upper() else found[-1].upper()
                )
        return None

    @property
    def is_projector(self) -> bool:
        """Say whether it lets a model see or hear, by its name."""
        return self.path.endswith(".gguf") and "mmproj" in self.path.rpartition("/")[2].lower()

    @property
    def is_weights(self) -> bool:
        """Say whether it holds a model's weights, or the first part of them."""
        name = self.path.rpartition("/")[2].lower()
        split = split_name(self.path)
        is_model = name.endswith(".gguf") and not self.is_projector and "imatrix" not in name
        return is_model and (split is None or split.number == 1)


def parse_reference(text: str) -> HubReference | Diagnostic:
    """Read `hf://owner/repository/file.gguf`, `owner/repository:Q4_K_M`, and the hub's own addresses."""
    found = _REFERENCE.fullmatch(text)
    if found is None or found["repository"].endswith("/") or ".." in text:
        return _not_a_reference(text)
    revision = found["revision"] or found["branch"]
    file = found["file"] or None
    if file is not None and not file.endswith(".gguf"):
        return _not_a_reference(text)
    tag = found["quantization"]
    return HubReference(
        repository=found["repository"],
        revision=None if revision in _NEWEST else revision,
        file=file,
        quantization=None if tag is None or tag.lower() in _NEWEST else tag,
    )


def choose_file(reference: HubReference, files: Sequence[HubFile]) -> HubFile | Diagnostic:
    """Choose the weights in a repository: the file that was named, or the one of the quantization."""
    weights = [file for file in files if file.is_weights]
    if reference.file is not None:
        split = split_name(reference.file)
        path = split.parts[0] if split else reference.file
        return next((file for file in weights if file.path == path), None) or _no_such_file(reference, weights)
    wanted = [reference.quantization] if reference.quantization else list(PREFERRED)
    for quantization in wanted:
        fitting = _of(quantization, weights)
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            return _several(reference, fitting)
    if reference.quantization is None and len(weights) == 1:
        return weights[0]
    return _no_such_quantization(reference, weights)


def choose_projector(files: Iterable[HubFile]) -> HubFile | None:
    """Choose what lets a model see: in half precision if there is such a one, else the smallest."""
    projectors = sorted((file for file in files if file.is_projector), key=lambda file: (file.size_bytes, file.path))
    half = (file for file in projectors if file.quantization == "F16")
    return next(half, projectors[0] if projectors else None)


def _of(quantization: str, weights: Iterable[HubFile]) -> list[HubFile]:
    wanted = quantization.upper()
    fitting = [file for file in weights if file.quantization == wanted]
    # Unsloth names those of its own making UD-Q4_K_XL.
    return fitting or [file for file in weights if file.quantization == f"UD-{wanted}"]


def _not_a_reference(text: str) -> Diagnostic:
    return Diagnostic(
        code="KI528",
        summary="Not an address on the hub",
        detail=f"{printable(text)!r} is neither a model in models.yaml nor weights on Hugging Face.",
        hint="Write owner/repository:Q4_K_M, or hf://owner/repository/file.gguf.",
    )


def _no_such_file(reference: HubReference, weights: Sequence[HubFile]) -> Diagnostic:
    close = closest(str(reference.file), [file.path for file in weights])
    return Diagnostic(
        code="KI529",
        summary="No such weights in the repository",
        detail=f"{reference.repository} has no weights {printable(str(reference.file))}.",
        hint=f"Did you mean {close!r}?" if close else _there(weights),
    )


def _no_such_quantization(reference: HubReference, weights: Sequence[HubFile]) -> Diagnostic:
    wanted = printable(reference.quantization or " or ".join(PREFERRED))
    return Diagnostic(
        code="KI529",
        summary="No such weights in the repository",
        detail=f"{reference.repository} has no weights in {wanted}.",
        hint=_there(weights),
    )


def _there(weights: Sequence[HubFile]) -> str:
    """List the quantizations that there are; the files where their names tell none."""
    if not weights:
        return "It has no GGUF files; look for a repository of the same model whose name ends in -GGUF."
    known = sorted({file.quantization for file in weights if file.quantization})
    if known:
        return f"It has {listed(known)}; name one with --quant."
    return f"Name one of its files: {listed(sorted(file.path for file in weights))}."


def _several(reference: HubReference, fitting: Sequence[HubFile]) -> Diagnostic:
    urls = [reference.url(file.path) for file in sorted(fitting, key=lambda file: file.path)]
    return Diagnostic(
        code="KI530",
        summary="Several files would do",
        detail=f"{reference.repository} has {len(fitting)} files of this quantization.",
        hint=f"Name one of them: {listed(urls)}.",
    )
