"""The texts in an Ollama store → what they say.

Ollama's manifest/manifest.go, server/images.go (GetModel) and types/model: a manifest is a file
`manifests/<host>/<namespace>/<model>/<tag>` in the form of Docker's version 2, whose layers are files
`blobs/sha256-<hex>`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError

from kloros_infra.diagnostics import Diagnostic, Problems, Span
from kloros_infra.migration import problems

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
LAYER_PREFIX = "application/vnd.ollama.image."

# types/model/name.go, isValidPart.
_PARTS = (
    r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}",
    r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}",
    r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}",
    r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}",
)
# manifest/paths.go, BlobsPath; files of versions before 0.1.26 have the colon.
_DIGEST = re.compile(r"sha256[:-]([0-9a-fA-F]{64})")
_MOST_LAYERS = 256

T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True, slots=True, order=True)
class OllamaName:
    """A model's name in all its parts."""

    host: str
    namespace: str
    model: str
    tag: str

    def __str__(self) -> str:
        """Give the shortest form, as `ollama list` shows it."""
        if self.host.lower() != DEFAULT_HOST:
            return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"
        if self.namespace.lower() != DEFAULT_NAMESPACE:
            return f"{self.namespace}/{self.model}:{self.tag}"
        return f"{self.model}:{self.tag}"


def name_of(parts: tuple[str, ...]) -> OllamaName | None:
    """Read a manifest's place below `manifests` as a name; None where it is none."""
    if len(parts) != len(_PARTS) or not all(re.fullmatch(*pair) for pair in zip(_PARTS, parts, strict=True)):
        return None
    return OllamaName(*parts)


def parse_name(text: str) -> tuple[str, ...]:
    """Split a name as a person writes it into the parts that are given, the tag last; `latest` where none is."""
    path, _, tag = text.rpartition(":") if text.rfind(":") > text.rfind("/") else (text, "", "")
    return (*path.split("/"), tag or "latest")


def is_asked_for(name: OllamaName, asked: str) -> bool:
    """Say whether a person means this model."""
    parts = parse_name(asked.lower())
    full = tuple(part.lower() for part in (name.host, name.namespace, name.model, name.tag))
    standard = (DEFAULT_HOST, DEFAULT_NAMESPACE)
    missing = len(full) - len(parts)
    return missing >= 0 and full == (*standard[:missing], *parts)


def sha256_of(digest: str) -> str | None:
    """Read a digest; None where it is none, such as a path."""
    found = _DIGEST.fullmatch(digest)
    return found[1].lower() if found else None


class _StrangersSpec(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class LayerSpec(_StrangersSpec):
    """A layer: what it is, and which file."""

    media_type: Annotated[str, Field(alias="mediaType", max_length=200)]
    digest: Annotated[str, Field(max_length=200)]
    size: NonNegativeInt = 0

    @property
    def kind(self) -> str:
        """Name what it is, without the prefix that all of Ollama's have."""
        return self.media_type.removeprefix(LAYER_PREFIX)


class ManifestSpec(_StrangersSpec):
    """A manifest as written."""

    config: LayerSpec | None = None
    layers: Annotated[tuple[LayerSpec, ...], Field(max_length=_MOST_LAYERS)] = ()


class ConfigSpec(_StrangersSpec):
    """The layer that says what a model is (types/model/config.go)."""

    model_format: str = ""
    model_family: str = ""
    model_type: str = ""
    file_type: str = ""
    remote_host: str = ""


def parse_manifest(text: str, *, file: str) -> tuple[ManifestSpec | None, Problems]:
    """Read a manifest."""
    return _read(
        text, ManifestSpec, lambda reason, line, column: problems.bad_manifest(Span(file, line, column), reason)
    )


def parse_config(text: str, *, file: str) -> tuple[ConfigSpec | None, Problems]:
    """Read the layer that says what a model is."""
    return _read(text, ConfigSpec, _layer_problem(file, "configuration"))


def parse_parameters(text: str, file: str) -> tuple[dict[str, Any] | None, Problems]:
    """Read the parameters of a Modelfile, by their names."""
    complain = _layer_problem(file, "parameters")
    value, found = _json(text, complain)
    if found or isinstance(value, dict):
        return value, found
    return None, (complain("expected a JSON object", 1, 1),)


def parse_messages(text: str, file: str) -> tuple[int, Problems]:
    """Count the messages that a Modelfile puts before every conversation."""
    complain = _layer_problem(file, "messages")
    value, found = _json(text, complain)
    if found or isinstance(value, list):
        return len(value or ()), found
    return 0, (complain("expected a JSON list", 1, 1),)


Complain = Callable[[str, int, int], Diagnostic]


def _layer_problem(file: str, what: str) -> Complain:
    return lambda reason, line, column: problems.bad_layer(file, what, reason, line=line, column=column)


def _json(text: str, complain: Complain) -> tuple[Any, Problems]:
    try:
        return json.loads(text), ()
    except json.JSONDecodeError as error:
        return None, (complain(f"not JSON: {error.msg}", error.lineno, error.colno),)
    except (RecursionError, ValueError) as error:
        return None, (complain(f"not JSON: {error}", 1, 1),)


def _read(text: str, spec: type[T], complain: Complain) -> tuple[T | None, Problems]:
    _, found = _json(text, complain)
    if found:
        return None, found
    try:
        # From the text: in strict mode only JSON's lists become tuples.
        return spec.model_validate_json(text), ()
    except ValidationError as error:
        return None, tuple(
            complain(f"{'.'.join(map(str, one['loc'])) or 'the whole'}: {one['msg']}", 1, 1)
            for one in error.errors(include_url=False, include_input=False)
        )
