"""How values are written in models.yaml: amounts, durations, shares, names, addresses, each with its pattern in words.

Every form is one type here. Its pattern is what the parser checks and what the published JSON Schema says, so that an
editor and `validate` agree.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from string import ascii_letters
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
# Above these many digits of a unit a figure is absurd: from 10 TB of memory and 100 TB/s on, and some years.
_MEMORY_DIGITS = {unit: 14 - len(str(size)) for unit, size in BYTE_UNITS.items()}
_BANDWIDTH_DIGITS = {unit: digits + 1 for unit, digits in _MEMORY_DIGITS.items()}
_CARD_DIGITS = {unit: _MEMORY_DIGITS[unit] for unit in ("MB", "GB", "TB", "MiB", "GiB", "TiB")}
_DURATION_DIGITS = {"ms": 11, "s": 8, "m": 6, "h": 4, "d": 3}
_FRACTION = r"(?:\.[0-9]{1,6})?"


def _any(digits: int) -> str:
    return f"[0-9]{{1,{digits}}}{_FRACTION}"


def _one_or_more(digits: int) -> str:
    return f"[1-9][0-9]{{0,{digits - 1}}}{_FRACTION}"


def _more_than_nothing(digits: int) -> str:
    return rf"(?:{_one_or_more(digits)}|0\.[0-9]{{0,5}}[1-9][0-9]{{0,5}})"


def _amounts(figure: Callable[[int], str], digits: Mapping[str, int]) -> str:
    return f"(?:{'|'.join(f'{figure(most)} ?{unit}' for unit, most in digits.items())})"


BYTES_PATTERN = f"^{_amounts(_any, _MEMORY_DIGITS)}$"
CARD_MEMORY_PATTERN = f"^{_amounts(_one_or_more, _CARD_DIGITS)}$"
BANDWIDTH_PATTERN = f"^{_amounts(_more_than_nothing, _BANDWIDTH_DIGITS)}/s$"
DURATION_PATTERN = f"^{_amounts(_any, _DURATION_DIGITS)}$"
POSITIVE_DURATION_PATTERN = f"^{_amounts(_more_than_nothing, _DURATION_DIGITS)}$"
_HUNDRED = r"100(?:\.0{1,6})?"
PERCENT_PATTERN = f"^(?:{_HUNDRED}|{_more_than_nothing(2)}) ?%$"


def parse_bytes(value: Any) -> int:
    """Read `12GiB`; raise ValueError with the accepted units."""
    if not _is_match(BYTES_PATTERN, value):
        raise ValueError(f"expected an amount of memory such as 12GiB or 600MiB (units: {', '.join(BYTE_UNITS)})")
    return int(_amount(value, BYTE_UNITS))


def parse_card_memory(value: Any) -> int:
    """Read the memory of a card; raise ValueError with an example."""
    if not _is_match(CARD_MEMORY_PATTERN, value):
        raise ValueError("expected the memory of a card such as 12GiB, or 512MiB instead of 0.5GiB")
    return parse_bytes(value)


def parse_bandwidth(value: Any) -> int:
    """Read `960GB/s` as bytes per second; raise ValueError with an example."""
    if not _is_match(BANDWIDTH_PATTERN, value):
        raise ValueError("expected a bandwidth such as 960GB/s")
    return int(_amount(value.removesuffix("/s"), BYTE_UNITS))


def parse_duration(value: Any) -> float:
    """Read `5m` as seconds; raise ValueError with the accepted units."""
    if not _is_match(DURATION_PATTERN, value):
        raise ValueError(f"expected a duration such as 30s or 5m (units: {', '.join(DURATION_UNITS)})")
    return _amount(value, DURATION_UNITS)


def parse_positive_duration(value: Any) -> float:
    """Read a duration that is not nothing; raise ValueError with the accepted units."""
    if not _is_match(POSITIVE_DURATION_PATTERN, value):
        raise ValueError(f"expected a duration above 0s such as 30s or 5m (units: {', '.join(DURATION_UNITS)})")
    return parse_duration(value)


def parse_percent(value: Any) -> float:
    """Read `80%` as a share of one; raise ValueError with an example."""
    if not _is_match(PERCENT_PATTERN, value):
        raise ValueError("expected a share such as 80%, above 0% and up to 100%")
    return float(value.removesuffix("%")) / 100


def _is_match(pattern: str, value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _amount(text: str, units: Mapping[str, float]) -> float:
    figure = text.rstrip(ascii_letters)
    return float(figure) * units[text.removeprefix(figure)]


def refuse_parent_folders(value: str) -> str:
    """Let a path through that stays below where it starts; raise ValueError for `..`."""
    if re.search(PARENT_FOLDER_PATTERN, value):
        raise ValueError("expected a path without '..'")
    return value


def refuse_hidden_folders(value: str) -> str:
    """Let a folder through that units may be shown; raise ValueError for those of kernel and services."""
    if re.search(HIDDEN_FOLDERS_PATTERN, value):
        raise ValueError("expected a folder outside of /dev, /proc, /run and /sys, of which units have their own")
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


ALIAS_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*([:/][A-Za-z0-9._-]+)*$"
ARGUMENT_PATTERN = r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$"
_PORT = r"([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_LOOPBACK = rf"tcp://127\.0\.0\.1:{_PORT}"
BUS_PATTERN = f"^{_LOOPBACK}$"
NO_ADDRESS = "off"
# The router may make sockets in its own folder of /run, and nowhere else.
DIRECT_PATTERN = rf"^({NO_ADDRESS}|{_LOOPBACK}|ipc:///run/kloros-router/[a-z0-9][a-z0-9._-]{{0,63}})$"
COMPUTE_CAPABILITY_PATTERN = r"^[0-9]{1,2}\.[0-9]$"
# A last label with a letter makes a name, so that 300.1.2.3 is neither a name nor an address (RFC 1123, section 2.1).
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
_LAST_LABEL = r"([A-Za-z]([A-Za-z0-9-]*[A-Za-z0-9])?|[0-9][0-9-]*[A-Za-z]([A-Za-z0-9-]*[A-Za-z0-9])?)"
_BYTE = r"(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
# An IPv6 address is written without brackets.
HOST_ADDRESS_PATTERN = (
    rf"^(({_LABEL}\.)*{_LAST_LABEL}|({_BYTE}\.){{3}}{_BYTE}|[0-9a-f]{{0,4}}(:[0-9a-f]{{0,4}}){{2,7}})$"
)
# The noncharacters (Unicode, section 23.7): systemd drops a line of a unit that holds one (utf8.c, unichar_is_valid).
NONCHARACTERS = r"\ufdd0-\ufdef\ufffe\uffff" + "".join(
    chr(plane << 16 | last) for plane in range(1, 17) for last in (0xFFFE, 0xFFFF)
)
# Text that ends up on one line of a unit or env file: no control characters, no line separators, no noncharacters.
INTERFACE_PATTERN = r"^[a-z][a-z0-9._-]{0,14}$"
LINE_PATTERN = rf"^[^\x00-\x1f\x7f-\x9f\u2028\u2029{NONCHARACTERS}]*$"
PARENT_FOLDER_PATTERN = r"(^|/)\.\.(/|$)"
HIDDEN_FOLDERS_PATTERN = r"^/(dev|proc|run|sys)(/|$)"
PATH_PATTERN = rf"^(/[^/\x00-\x20\x22\x7f-\xa0\u2028\u2029{NONCHARACTERS}\\'$%*?\[\]:]+)+$"
PCI_PATTERN = r"^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$"
PROGRAM_PATTERN = r"^(/[^\x00-\x20\x22\x7f-\xa0\u2028\u2029\\'$%]+|package://[A-Za-z_][A-Za-z0-9_.]*/[A-Za-z0-9._/-]+)$"
QUANTIZATION_PATTERN = r"^[A-Z0-9_]{1,32}$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"
TEXT_PATTERN = r"^[^\x00]*$"
TIMESTAMP_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2})?(Z|[+-][0-9]{2}:[0-9]{2}))?$"
TOOL_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"
URL_PATH_PATTERN = r"^/[!#-;=?-Z_a-z~]*$"
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
    DIRECT_PATTERN: (
        "a loopback address such as tcp://127.0.0.1:5555, a socket such as ipc:///run/kloros-router/direct, or off"
    ),
    BYTES_PATTERN: "an amount of memory such as 12GiB or 600MiB",
    CARD_MEMORY_PATTERN: "an amount of memory such as 12GiB, 1MiB or more",
    COMPUTE_CAPABILITY_PATTERN: 'a compute capability such as "8.6"',
    DURATION_PATTERN: "a duration such as 30s or 5m",
    HOST_ADDRESS_PATTERN: "a host name or an IP address such as 100.64.0.7",
    INTERFACE_PATTERN: "a network interface such as tailscale0, as `ip link` names it",
    LINE_PATTERN: "text on one line",
    PATH_PATTERN: "the path of a folder below /, without blanks, quotes, colons, wildcards or a slash at its end",
    PCI_PATTERN: "a PCI address such as 0000:01:00.0 (`lspci -D` prints it)",
    PERCENT_PATTERN: "a share above 0% such as 80%",
    POSITIVE_DURATION_PATTERN: "a duration above 0s such as 30s or 5m",
    PROGRAM_PATTERN: "an absolute path without spaces or quotes, or package://module/file",
    QUANTIZATION_PATTERN: "a quantization in capitals, such as Q4_0 or Q5_K_M",
    SHA256_PATTERN: "a sha256: 64 digits and letters from a to f",
    TEXT_PATTERN: "text without NUL characters",
    TIMESTAMP_PATTERN: 'a date or time such as "2025-11-17" or "2025-11-17T10:00:00Z"',
    URL_PATH_PATTERN: "a path of a URL, which begins with /, such as /v1",
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
Alias = Annotated[str, Field(max_length=128, pattern=ALIAS_PATTERN)]
Bytes = Annotated[int, BeforeValidator(parse_bytes), _text_form(BYTES_PATTERN)]
CardMemory = Annotated[int, BeforeValidator(parse_card_memory), _text_form(CARD_MEMORY_PATTERN)]
Bandwidth = Annotated[int, BeforeValidator(parse_bandwidth), _text_form(BANDWIDTH_PATTERN)]
Duration = Annotated[float, BeforeValidator(parse_duration), _text_form(DURATION_PATTERN)]
PositiveDuration = Annotated[float, BeforeValidator(parse_positive_duration), _text_form(POSITIVE_DURATION_PATTERN)]
Percent = Annotated[float, BeforeValidator(parse_percent), _text_form(PERCENT_PATTERN)]
LARGEST_COUNT = 2**31 - 1
Count = Annotated[int, Field(ge=0, le=LARGEST_COUNT)]
PositiveCount = Annotated[int, Field(ge=1, le=LARGEST_COUNT)]
# llama-server's seeds are of 32 bits, and the highest stands for a random one (llama.cpp, include/llama.h).
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
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
ReadablePath = Annotated[
    FolderPath,
    Field(
        json_schema_extra={"not": {"type": "string", "pattern": f"{PARENT_FOLDER_PATTERN}|{HIDDEN_FOLDERS_PATTERN}"}}
    ),
    AfterValidator(refuse_hidden_folders),
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
DirectAddress = Annotated[str, Field(pattern=DIRECT_PATTERN)]
HostAddress = Annotated[str, Field(max_length=253, pattern=HOST_ADDRESS_PATTERN)]
Interface = Annotated[str, Field(pattern=INTERFACE_PATTERN)]
UrlPath = Annotated[str, Field(max_length=500, pattern=URL_PATH_PATTERN)]
Url = Annotated[str, Field(max_length=2000, pattern=URL_PATTERN)]
# llama-server serves at most LLAMA_MAX_SEQ sequences (llama.cpp, src/llama-cparams.h).
Slots = Annotated[int, Field(ge=1, le=256)]
LEAST_CONTEXT_TOKENS, MOST_CONTEXT_TOKENS = 256, 10_485_760
ContextTokens = Annotated[int, Field(ge=LEAST_CONTEXT_TOKENS, le=MOST_CONTEXT_TOKENS)]
Probability = Annotated[float, Field(ge=0, le=1)]
