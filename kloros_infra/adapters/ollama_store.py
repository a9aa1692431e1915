"""An Ollama store on disk: `manifests/<host>/<namespace>/<model>/<tag>` and `blobs/sha256-<hex>`; only ever read.

The store may be anybody's: names and digests are held against Ollama's own patterns before they become paths, links
that lead out of the store are not followed, and nothing but GGUF headers is read beyond a mebibyte.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from kloros_infra.adapters.local_files import LocalFiles
from kloros_infra.diagnostics import Diagnostic, Problems, Severity, Span
from kloros_infra.errors import ObstacleError
from kloros_infra.ir.gguf import GgufHeader
from kloros_infra.ir.lock import Origin
from kloros_infra.ir.weights_source import SourceFacts
from kloros_infra.migration import problems
from kloros_infra.migration.ollama import Blob, OllamaModel
from kloros_infra.migration.ollama_manifest import (
    ConfigSpec,
    LayerSpec,
    ManifestSpec,
    OllamaName,
    is_asked_for,
    name_of,
    parse_config,
    parse_manifest,
    parse_messages,
    parse_parameters,
    sha256_of,
)

MANIFESTS = "manifests"
BLOBS = "blobs"
_MOST_TEXT_BYTES = 2**20
_MOST_MANIFESTS = 10_000
# Layers whose texts are read, or that are not needed: licences, and what models are made from.
_PASSED_OVER = frozenset({"license", "embed", "prompt"})
_TEXTS = frozenset({"template", "system", "params", "messages"})

ReadHeader = Callable[[Path], GgufHeader]
T = TypeVar("T")


def usual_stores(environment: Mapping[str, str], home: Path) -> tuple[Path, ...]:
    """List where Ollama keeps models: as its environment says, for this user, and for its service (envconfig)."""
    named = environment.get("OLLAMA_MODELS", "").strip("\"' ")
    usual = (home, Path("/usr/share/ollama"), Path("/var/lib/ollama"))
    stores = (
        *((Path(named),) if named else ()),
        *(one / ".ollama/models" for one in usual),
        Path("/var/lib/ollama/models"),
    )
    return tuple(dict.fromkeys(stores))


def find_store(folders: Sequence[Path]) -> Path:
    """Choose the first folder that is a store; raise ObstacleError where none is."""
    for folder in folders:
        if (folder / MANIFESTS).is_dir():
            return folder.resolve()
    raise ObstacleError([problems.no_store(str(folder) for folder in folders)])


def read_store(folder: Path, asked: Sequence[str], read_header: ReadHeader) -> tuple[tuple[OllamaModel, ...], Problems]:
    """Read the models that are asked for, or all of them; what is wrong with one does not keep the others back."""
    store = _Store(folder, read_header)
    manifests = tuple(store.manifests())
    known = [str(name) for name, _ in manifests]
    unknown = [
        problems.unknown_model(one, known) for one in asked if not any(is_asked_for(n, one) for n, _ in manifests)
    ]
    wanted = [(name, file) for name, file in manifests if not asked or any(is_asked_for(name, one) for one in asked)]
    models = tuple(model for name, file in wanted if (model := store.model(name, file)) is not None)
    return models, (*unknown, *store.problems)


class OllamaBlobs:
    """The weights of a store as a source whose files say their own sha256: apply hashes them before they are used."""

    def __init__(self, models: Sequence[OllamaModel]) -> None:
        self._blobs = {blob.source: blob for model in models for blob in (*model.weights, *model.projectors)}
        self._files = LocalFiles()

    def handles(self, url: str) -> bool:
        """Say whether a source is one of the store's files."""
        return url in self._blobs

    def look(self, url: str, revision: str | None = None) -> SourceFacts:  # noqa: ARG002 - a file has no revisions
        """Give what the store says of a file."""
        blob = self._blobs[url]
        return SourceFacts(Origin.FILE, None, blob.size_bytes, blob.sha256)

    def read(self, url: str, revision: str | None, *, start: int, length: int) -> bytes:
        """Read a piece of a file."""
        return self._files.read(url, revision, start=start, length=length)

    def pieces(self, url: str, revision: str | None) -> Iterator[bytes]:
        """Read a whole file, piece by piece."""
        return self._files.pieces(url, revision)


@dataclass(frozen=True, slots=True)
class _Layers:
    """A manifest's layers, the texts already read."""

    texts: Mapping[str, tuple[str, str]]
    weights: tuple[Blob, ...]
    projectors: tuple[Blob, ...]
    others: tuple[str, ...]


class _Store:
    """Reads one store; collects what is wrong with it."""

    def __init__(self, folder: Path, read_header: ReadHeader) -> None:
        self.problems: list[Diagnostic] = []
        self._manifests = (folder / MANIFESTS).resolve()
        self._blobs = (folder / BLOBS).resolve()
        self._read_header = read_header
        self._headers: dict[str, GgufHeader | None] = {}

    def manifests(self) -> Iterator[tuple[OllamaName, Path]]:
        """List the manifests, by name; Ollama looks exactly four folders deep as well."""
        files = (file for file in self._manifests.glob("*/*/*/*") if not file.is_dir())
        for count, file in enumerate(sorted(files)):
            if count == _MOST_MANIFESTS:
                self._add(problems.bad_manifest(_at(self._manifests), f"only the first {count} manifests are read"))
                return
            parts = file.relative_to(self._manifests).parts
            name = name_of(parts)
            if name is None:
                self._add(problems.bad_manifest(_at(file), f"{'/'.join(parts)} is no name of a model"))
            else:
                yield name, file

    def model(self, name: OllamaName, file: Path) -> OllamaModel | None:
        """Read one manifest and its layers; None where it is not whole."""
        before = len(self.problems)
        text = self._text(file, self._manifests, _at(file))
        manifest = None if text is None else self._kept(parse_manifest(text, file=str(file)))
        if manifest is None:
            return None
        config, layers = self._config(manifest, file), self._layers(manifest, file)
        return OllamaModel(
            name=name,
            config=config,
            weights=layers.weights,
            projectors=layers.projectors,
            header=self._header(layers.weights),
            template=layers.texts.get("template", ("", ""))[0],
            system=layers.texts.get("system", ("", ""))[0],
            parameters=self._kept(parse_parameters(*_named(layers.texts, "params", "{}"))) or {},
            message_count=self._kept(parse_messages(*_named(layers.texts, "messages", "[]"))) or 0,
            others=layers.others,
            is_whole=len(self.problems) == before,
        )

    def _config(self, manifest: ManifestSpec, file: Path) -> ConfigSpec:
        if manifest.config is None or not manifest.config.digest:
            return ConfigSpec()
        read = self._layer_text(manifest.config, file)
        return (self._kept(parse_config(read[0], file=read[1])) if read else None) or ConfigSpec()

    def _layers(self, manifest: ManifestSpec, file: Path) -> _Layers:
        texts: dict[str, tuple[str, str]] = {}
        blobs: dict[str, list[Blob]] = {"model": [], "projector": []}
        others: list[str] = []
        for layer in manifest.layers:
            if layer.kind in blobs:
                blob = self._blob(layer, file)
                blobs[layer.kind] += [blob] if blob else []
            elif layer.kind in _TEXTS:
                read = self._layer_text(layer, file)
                texts |= {layer.kind: read} if read else {}
            elif layer.kind not in _PASSED_OVER:
                others.append(layer.kind)
        return _Layers(texts, tuple(blobs["model"]), tuple(blobs["projector"]), tuple(sorted(set(others))))

    def _layer_text(self, layer: LayerSpec, file: Path) -> tuple[str, str] | None:
        """Read a small layer; give it with the path of its file."""
        path = self._path(layer, file)
        text = None if path is None else self._text(path, self._blobs, _at(file))
        return None if path is None or text is None else (text, str(path))

    def _blob(self, layer: LayerSpec, file: Path) -> Blob | None:
        path = self._path(layer, file)
        if path is None:
            return None
        target = self._inside(path, self._blobs, _at(file))
        if target is None:
            return None
        size_bytes = target.stat().st_size
        if layer.size not in (0, size_bytes):
            reason = f"its file has {size_bytes} bytes, the manifest says {layer.size}"
            self._add(problems.blob_missing(_at(file), layer.digest, reason))
            return None
        if not str(target).isprintable():
            self._add(problems.outside_store(_at(file), f"the path {str(target)!r} cannot be written in models.yaml"))
            return None
        return Blob(str(target), sha256_of(layer.digest) or "", size_bytes)

    def _path(self, layer: LayerSpec, file: Path) -> Path | None:
        """Find a layer's file; older versions of Ollama wrote a colon into its name."""
        sha256 = sha256_of(layer.digest)
        if sha256 is None:
            self._add(problems.outside_store(_at(file), f"the digest {layer.digest[:100]!r} is no sha256"))
            return None
        for path in (self._blobs / f"sha256-{sha256}", self._blobs / f"sha256:{sha256}"):
            if path.exists():
                return path
        self._add(problems.blob_missing(_at(file), layer.digest, "there is no such file"))
        return None

    def _header(self, weights: tuple[Blob, ...]) -> GgufHeader | None:
        """Read the header of a model's weights, once for all names that share them."""
        if len(weights) != 1:
            return None
        blob = weights[0]
        if blob.path not in self._headers:
            try:
                self._headers[blob.path] = self._read_header(Path(blob.path))
            except ObstacleError as error:
                self._headers[blob.path] = None
                for problem in error.problems:
                    self._add(_as_warning(problem, blob))
        return self._headers[blob.path]

    def _text(self, path: Path, folder: Path, span: Span) -> str | None:
        """Read a small text that lies within the store."""
        target = self._inside(path, folder, span)
        if target is None:
            return None
        try:
            data = _read_small(target)
        except OSError as error:
            self._add(problems.blob_missing(span, path.name, error.strerror or str(error)))
            return None
        text, found = _decoded(data, path)
        self.problems += found
        return text

    def _inside(self, path: Path, folder: Path, span: Span) -> Path | None:
        """Follow links as long as they stay within the store, to a plain file."""
        try:
            target = path.resolve(strict=True)
            is_plain = stat.S_ISREG(target.stat().st_mode)
        except (OSError, RuntimeError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            self._add(problems.blob_missing(span, path.name, reason))
            return None
        if not target.is_relative_to(folder):
            self._add(problems.outside_store(span, f"{path.name} is a link to {target}"))
            return None
        if not is_plain:
            self._add(problems.outside_store(span, f"{path.name} is no plain file"))
            return None
        return target

    def _kept(self, result: tuple[T | None, Problems]) -> T | None:
        value, found = result
        self.problems += found
        return value

    def _add(self, problem: Diagnostic) -> None:
        self.problems.append(problem)


def _named(texts: Mapping[str, tuple[str, str]], kind: str, otherwise: str) -> tuple[str, str]:
    return texts.get(kind, (otherwise, kind))


def _at(file: Path) -> Span:
    return Span(str(file), 1, 1)


def _as_warning(problem: Diagnostic, blob: Blob) -> Diagnostic:
    return replace(problem, severity=Severity.WARNING, span=_at(Path(blob.path)))


def _decoded(data: bytes, path: Path) -> tuple[str | None, Problems]:
    if len(data) > _MOST_TEXT_BYTES:
        return None, (problems.bad_layer(str(path), "text", "it has more than a mebibyte"),)
    try:
        return data.decode("utf-8"), ()
    except UnicodeDecodeError as error:
        return None, (problems.bad_layer(str(path), "text", f"byte {error.start} does not belong to UTF-8 text"),)


def _read_small(path: Path) -> bytes:
    """Read up to a little more than a small text may have; a pipe in place of the file is not waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as stream:
        return stream.read(_MOST_TEXT_BYTES + 1)
