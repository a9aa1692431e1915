"""Checks of extra llama-server options against what the installed build knows (KI258 to KI261).

They are no part of compile, which gives the same on every machine: commands that look at this machine ask for them.
"""

from __future__ import annotations

from collections.abc import Iterator

from kloros_infra.compiler.check_arguments import refusal
from kloros_infra.compiler.llama_server_options import Option, ServerOptions
from kloros_infra.compiler.parse import Parsed
from kloros_infra.compiler.source import Address
from kloros_infra.compiler.suggest import closest, suggest
from kloros_infra.compiler.written_arguments import written_arguments
from kloros_infra.diagnostics import Diagnostic, Problems, Severity, in_order
from kloros_infra.ir.catalog import ArgumentValue


def asks_llama_server(parsed: Parsed) -> bool:
    """Say whether the file has anything that only the installed llama-server can judge."""
    return any(True for _ in _options(parsed)) or any(True for _ in _templates(parsed))


def check_options(parsed: Parsed, known: ServerOptions) -> Problems:
    """Find options and chat templates that the installed llama-server would refuse."""
    found: list[Diagnostic] = []
    for address, name, value in _options(parsed):
        option = known.options.get(name)
        if option is None or option.removal is not None:
            found.append(parsed.locate(_unknown_option(name, option, known), address, at_key=True))
        elif problem := _value_problem(name, value, option, known):
            found.append(parsed.locate(problem, address))
    for address, template in _templates(parsed):
        if known.chat_templates and template not in known.chat_templates:
            found.append(parsed.locate(_unknown_template(template, known), address))
    return in_order(found)


def options_not_checked(parsed: Parsed, reason: str) -> Problems:
    """Say that the file's options were not checked, because no llama-server could be asked."""
    first = next(_options(parsed), None)
    return () if first is None else (parsed.locate(_not_checked(reason), first[0], at_key=True),)


def _options(parsed: Parsed) -> Iterator[tuple[Address, str, ArgumentValue]]:
    """List the options that are ours to give: the others are refused without asking."""
    for place in written_arguments(parsed.config):
        for name, value in place.own.items():
            if refusal(name) is None:
                yield (*place.address, name), name, value


def _templates(parsed: Parsed) -> Iterator[tuple[Address, str]]:
    for index, model in enumerate(parsed.config.models):
        if model.chat_template is not None:
            yield ("models", index, "chat_template"), model.chat_template


def _value_problem(name: str, value: ArgumentValue, option: Option, known: ServerOptions) -> Diagnostic | None:
    if not option.takes_value:
        return _switch_problem(name, value, known)
    if isinstance(value, bool):
        hint = f"Write one of {', '.join(option.values)}." if option.values else "Write its value, or take it out."
        return _no_fit(f"`{name}` takes a value, and {str(value).lower()} is none.", hint)
    for item in _items(value, option):
        if option.values and str(item) not in option.values:
            detail = f"`{name}` takes one of {', '.join(option.values)}, and {item!r} is none of them."
            return _no_fit(detail, suggest(str(item), option.values))
        if option.is_number and isinstance(item, str) and item not in option.words and not _is_number(item):
            return _no_fit(f"`{name}` takes a number, and {item!r} is none.", "Write a number.")
    return None


def _items(value: ArgumentValue, option: Option) -> Iterator[ArgumentValue]:
    for item in value if isinstance(value, tuple) else (value,):
        yield from item.split(",") if option.is_list and isinstance(item, str) else (item,)


def _switch_problem(name: str, value: ArgumentValue, known: ServerOptions) -> Diagnostic | None:
    """Check an option that takes no value: `true` gives it, `false` its `no-` twin."""
    if not isinstance(value, bool):
        return _no_fit(f"`{name}` takes no value.", f"Write `{name}: true`.")
    if not value and f"no-{name}" not in known.options:
        return _no_fit(f"`{name}` cannot be switched off: llama-server has no `no-{name}`.", f"Take `{name}` out.")
    return None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _unknown_option(name: str, removed: Option | None, known: ServerOptions) -> Diagnostic:
    if removed is not None and removed.removal is not None:
        detail, hint = f"The installed llama-server no longer has `--{name}`.", f"It says: {removed.removal}."
    else:
        detail, hint = f"The installed llama-server has no option `--{name}`.", _nearest_option(name, known)
    return Diagnostic("KI258", "Option unknown to llama-server", detail, hint)


def _nearest_option(name: str, known: ServerOptions) -> str:
    if long_name := known.short_names.get(name):
        return f"`-{name}` is short for `--{long_name}`: write `{long_name}`."
    usable = [one for one, option in known.options.items() if refusal(one) is None and option.removal is None]
    close = closest(name, usable)
    return f"Did you mean {close!r}?" if close else "`llama-server --help` lists its options; write the long name."


def _unknown_template(template: str, known: ServerOptions) -> Diagnostic:
    return Diagnostic(
        code="KI261",
        summary="Chat template unknown to llama-server",
        detail=f"The installed llama-server has no chat template {template!r} of its own.",
        hint=suggest(template, known.chat_templates),
    )


def _no_fit(detail: str, hint: str) -> Diagnostic:
    return Diagnostic("KI259", "Value does not fit the option", detail, hint)


def _not_checked(reason: str) -> Diagnostic:
    return Diagnostic(
        code="KI260",
        summary="Options not checked",
        detail=f"No llama-server could say whether it knows the options under `arguments`: {reason.rstrip('.')}.",
        hint="Validate where the llama-server of the local host is installed; `apply` finds out at the latest.",
        severity=Severity.WARNING,
    )
