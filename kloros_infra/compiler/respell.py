"""Names and addresses that are nearly right → the spelling that is accepted."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from kloros_infra.ir import names, written


def respelled(text: str, pattern: str) -> str | None:
    """Find a spelling of the same name or address that a pattern accepts; None where none is near."""
    near = _NEAR.get(pattern)
    if near is None or not text.isprintable():
        return None
    likely = near(text.strip())
    return likely if re.fullmatch(pattern, likely) else None


def _name(text: str) -> str:
    return re.sub(r"\s+", "-", text).lower()


def _profile(text: str) -> str:
    return re.sub(r"[\s-]+", "_", text).lower()


def _option(text: str) -> str:
    return re.sub(r"[\s_]+", "-", text).lower().lstrip("-")


def _alias(text: str) -> str:
    return re.sub(r"([:/])[:/]+", r"\1", re.sub(r"\s+", "-", text)).rstrip(":/")


def _pci(text: str) -> str:
    # lspci leaves out the domain where all devices are in the first one.
    return f"0000:{text}".lower() if text.count(":") == 1 else text.lower()


def _url(text: str) -> str:
    return text if "://" in text else f"http://{text}"


def _host(text: str) -> str:
    return text.rpartition("://")[2].partition("/")[0]


def _weights(text: str) -> str:
    return f"file://{text}"


def _folder(text: str) -> str:
    return re.sub(r"//+", "/", text).rstrip("/")


def _url_path(text: str) -> str:
    return f"/{text}"


_NEAR: Mapping[str, Callable[[str], str]] = {
    names.NAME_PATTERN: _name,
    names.PROFILE_PATTERN: _profile,
    written.ALIAS_PATTERN: _alias,
    written.ARGUMENT_PATTERN: _option,
    written.HOST_ADDRESS_PATTERN: _host,
    written.PATH_PATTERN: _folder,
    written.PCI_PATTERN: _pci,
    written.QUANTIZATION_PATTERN: str.upper,
    written.URL_PATH_PATTERN: _url_path,
    written.URL_PATTERN: _url,
    written.VERSION_PATTERN: _alias,
    written.WEIGHTS_PATTERN: _weights,
}
