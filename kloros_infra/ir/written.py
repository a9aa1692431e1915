"""How values are written in models.yaml: amounts, durations, shares, names, addresses, each with its pattern in words.

Every form is one type here. Its pattern is what the parser checks and what the published JSON Schema says, so that an
editor and `validate` agree.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from kloros_infra.ir.names import NAME_PATTERN, PROFILE_PATTERN

BYTE_UNITS = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_FIGURE = r"([0-9]{1,9}(?:\.[0-9]{1,6})?)"
_POSITIVE_FIGURE = r"([1-9][0-9]{0,8}(?:\.[0-9]{1,6})?)"


def _amounts(units: Mapping[str, float], figure: str = _FIGURE) -> str:
    return rf"^{figure} ?({'|'.join(units)})$"


BYTES_PATTERN = _amounts(BYTE_UNITS)
POSITIVE_BYTES_PATTERN = _amounts(BYTE_UNITS, _POSITIVE_FIGURE)
DURATION_PATTERN = _amounts(DURATION_UNITS)
BANDWIDTH_PATTERN = rf"^{_POSITIVE_FIGURE} ?({'|'.join(BYTE_UNITS)})/s$"
PERCENT_PATTERN = r"^(100(?:\.0{1,6})?|[0-9]{1,2}(?:\.[0-9]{1,6})?) ?%$"


def parse_bytes(value: Any) -> int:
    """Read `12GiB`; raise ValueError with the accepted units."""
    found = _match(BYTES_PATTERN, value)
    if not found:
        raise ValueError(f"expected an amount of memory such as 12GiB or 600MiB (units: {', '.join(BYTE_UNITS)})")
    return int(float(found[1]) * BYTE_UNITS[found[2]])


def parse_positive_bytes(value: Any) -> int:
    """Read an amount that is not nothing; raise ValueError with the accepted units."""
    amount = parse_bytes(value)
    if not _match(POSITIVE_BYTES_PATTERN, value):
        raise ValueError("expected an amount of memory of 1 or more, such as 512MiB instead of 0.5GiB")
    return amount


def parse_bandwidth(value: Any) -> int:
    """Read `960GB/s` as bytes per second; raise ValueError with an example."""
    if not _match(BANDWIDTH_PATTERN, value):
        raise ValueError("expected a bandwidth such as 960GB/s")
    return parse_bytes(value.removesuffix("/s"))


def parse_duration(value: Any) -> float:
    """Read `5m` as seconds; raise ValueError with the accepted units."""
    found = _match(DURATION_PATTERN, value)
    if not found:
        raise ValueError(f"expected a duration such as 30s or 5m (units: {', '.join(DURATION_UNITS)})")
    return float(found[1]) * DURATION_UNITS[found[2]]


def parse_percent(value: Any) -> float:
    """Read `80%` as a share of one; raise ValueError with an example."""
    found = _match(PERCENT_PATTERN, value)
    if not found:
        raise ValueError("expected a share such as 80%, from 0% to 100%")
    return float(found[1]) / 100


def _match(pattern: str, value: Any) -> re.Match[str] | None:
    return re.fullmatch(pattern, value) if isinstance(value, str) else None


def refuse_parent_folders(value: str) -> str:
    """Let a path through that stays below where it starts; raise ValueError for `..`."""
    if re.search(PARENT_FOLDER_PATTERN, value):
        raise ValueError("expected a path without '..'")
    return value


def port_of(address: str) -> int:
    """Read the port of `tcp://127.0.0.1:5556`."""
    return int(address.rpartition(":")[2])


def one_or_several(value: Any) -> Any:
    """Read one text as a list of one."""
    match value:
        case str():
            return (value,)
        case list():
            return tuple(value)
        case _:
            return value


ALIAS_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$"
ARGUMENT_PATTERN = r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$"
_PORT = r"([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
BUS_PATTERN = rf"^tcp://127\.0\.0\.1:{_PORT}$"
COMPUTE_CAPABILITY_PATTERN = r"^[0-9]{1,2}\.[0-9]$"
# RFC 1123, section 2.1, for names; an IPv6 address is written without brackets.
HOST_ADDRESS_PATTERN = r"^([A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|[0-9a-f:]{2,39})$"
# The noncharacters (Unicode, section 23.7): systemd drops a line of a unit that holds one (utf8.c, unichar_is_valid).
NONCHARACTERS = r"\ufdd0-\ufdef\ufffe\uffff" + "".join(
    chr(plane << 16 | last) for plane in range(1, 17) for last in (0xFFFE, 0xFFFF)
)
# Text that ends up on one line of a unit or env file: no control characters, no line separators, no noncharacters.
LINE_PATTERN = rf"^[^\x00-\x1f\x7f-\x9f\u2028\u2029{NONCHARACTERS}]*$"
PARENT_FOLDER_PATTERN = r"(^|/)\.\.(/|$)"
PATH_PATTERN = rf"^/[^\x00-\x20\x22\x7f-\xa0\u2028\u2029{NONCHARACTERS}\\'$%*?\[\]:]*$"
PCI_PATTERN = r"^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$"
PROGRAM_PATTERN = r"^(/[^\x00-\x20\x22\x7f-\xa0\u2028\u2029\\'$%]+|package://[A-Za-z_][A-Za-z0-9_.]*/[A-Za-z0-9._/-]+)$"
QUANTIZATION_PATTERN = r"^[A-Z0-9_]{1,32}$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"
TEXT_PATTERN = r"^[^\x00]*$"
TIMESTAMP_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2})?(Z|[+-][0-9]{2}:[0-9]{2}))?$"
TOOL_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"
URL_PATTERN = r"^https?://[A-Za-z0-9.\[\]:-]{1,253}(/[!#-;=?-Z_a-z~]*)?$"
UUID_PATTERN = r"^GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
VERSION_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
WEIGHTS_PATTERN = (
    r"^(hf://[A-Za-z0-9._-]+/[A-Za-z0-9._-]+(@[A-Za-z0-9._-]+)?/[A-Za-z0-9._/-]+"
    r"|package://[A-Za-z_][A-Za-z0-9_.]*/[A-Za-z0-9._/-]+"
    r"|file:///[^\x00-\x1f\x7f-\x9f\u2028\u2029]+)$"
)

MEANINGS: Mapping[str, str] = {
    NAME_PATTERN: "a name: lower-case letters, digits, '.', '_' and '-', 64 at most, beginning with a letter or digit",
    PROFILE_PATTERN: "a profile's name: lower-case letters, digits and '_', 32 at most, no hyphen",
    ALIAS_PATTERN: "a model's name as clients write it, such as qwen2.5-coder:7b",
    ARGUMENT_PATTERN: "a long option of llama-server without its dashes, such as threads-batch",
    BANDWIDTH_PATTERN: "a bandwidth such as 960GB/s",
    BUS_PATTERN: "a loopback address with a port from 1 to 65535, such as tcp://127.0.0.1:5556",
    BYTES_PATTERN: "an amount of memory such as 12GiB or 600MiB",
    COMPUTE_CAPABILITY_PATTERN: 'a compute capability such as "8.6"',
    DURATION_PATTERN: "a duration such as 30s or 5m",
    HOST_ADDRESS_PATTERN: "a host name or an IP address such as 100.64.0.7",
    LINE_PATTERN: "text on one line",
    PATH_PATTERN: "an absolute path without blanks, quotes, colons or wildcards",
    PCI_PATTERN: "a PCI address such as 0000:01:00.0 (`lspci -D` prints it)",
    PERCENT_PATTERN: "a share such as 80%",
    POSITIVE_BYTES_PATTERN: "an amount of memory such as 12GiB, 1 or more of its unit",
    PROGRAM_PATTERN: "an absolute path without spaces or quotes, or package://module/file",
    QUANTIZATION_PATTERN: "a quantization in capitals, such as Q4_0 or Q5_K_M",
    SHA256_PATTERN: "a sha256: 64 digits and letters from a to f",
    TEXT_PATTERN: "text without NUL characters",
    TIMESTAMP_PATTERN: 'a date or time such as "2025-11-17" or "2025-11-17T10:00:00Z"',
    URL_PATTERN: "a URL such as http://100.64.0.7:8888/status",
    TOOL_PATTERN: "a function's name: letters, digits, '_' and '-', 64 at most",
    UUID_PATTERN: "a GPU's UUID such as GPU-5a2b…, as `nvidia-smi -L` prints it",
    VERSION_PATTERN: "a version: letters, digits, '.', '_' and '-', such as 2025-11-17-01",
    WEIGHTS_PATTERN: (
        "a source of weights: hf://owner/repository/file or hf://owner/repository@revision/file, "
        "package://module/file or file:///path"
    ),
}
"""Each pattern in words, for messages."""


def _text_form(pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern})


Name = Annotated[str, Field(pattern=NAME_PATTERN)]
ProfileName = Annotated[str, Field(pattern=PROFILE_PATTERN)]
VersionName = Annotated[str, Field(pattern=VERSION_PATTERN)]
Alias = Annotated[str, Field(pattern=ALIAS_PATTERN)]
Bytes = Annotated[int, BeforeValidator(parse_bytes), _text_form(BYTES_PATTERN)]
PositiveBytes = Annotated[int, BeforeValidator(parse_positive_bytes), _text_form(POSITIVE_BYTES_PATTERN)]
Bandwidth = Annotated[int, BeforeValidator(parse_bandwidth), _text_form(BANDWIDTH_PATTERN)]
Duration = Annotated[float, BeforeValidator(parse_duration), _text_form(DURATION_PATTERN)]
Percent = Annotated[float, BeforeValidator(parse_percent), _text_form(PERCENT_PATTERN)]
Port = Annotated[int, Field(ge=1, le=65535)]
Line = Annotated[str, Field(max_length=500, pattern=LINE_PATTERN)]
Text = Annotated[str, Field(max_length=65_536, pattern=TEXT_PATTERN)]
_STAYS_BELOW: Any = {"not": {"type": "string", "pattern": PARENT_FOLDER_PATTERN}}
WEIGHTS_FORM: Any = {"type": "string", "maxLength": 4096, "pattern": WEIGHTS_PATTERN, **_STAYS_BELOW}
FolderPath = Annotated[
    str,
    Field(max_length=4096, pattern=PATH_PATTERN, json_schema_extra=_STAYS_BELOW),
    AfterValidator(refuse_parent_folders),
]
Program = Annotated[
    str,
    Field(max_length=4096, pattern=PROGRAM_PATTERN, json_schema_extra=_STAYS_BELOW),
    AfterValidator(refuse_parent_folders),
]
WeightsSource = Annotated[
    str,
    Field(max_length=4096, pattern=WEIGHTS_PATTERN, json_schema_extra=_STAYS_BELOW),
    AfterValidator(refuse_parent_folders),
]
BusAddress = Annotated[str, Field(pattern=BUS_PATTERN)]
HostAddress = Annotated[str, Field(max_length=253, pattern=HOST_ADDRESS_PATTERN)]
Url = Annotated[str, Field(max_length=2000, pattern=URL_PATTERN)]
# llama-server serves at most LLAMA_MAX_SEQ sequences (llama.cpp, src/llama-cparams.h).
Slots = Annotated[int, Field(ge=1, le=256)]
ContextTokens = Annotated[int, Field(ge=256, le=10_485_760)]
Probability = Annotated[float, Field(ge=0, le=1)]
