"""Checks of remote hosts and of who serves which model (KI226 to KI230)."""

from __future__ import annotations

from collections.abc import Iterator

from kloros_infra.compiler.parse import Parsed
from kloros_infra.compiler.rpc_hosts import lending_hosts
from kloros_infra.diagnostics import Diagnostic, Severity
from kloros_infra.ir.config import Config
from kloros_infra.ir.config_machine import HostSpec


def remote_models(config: Config) -> frozenset[str]:
    """Name the models that some remote host serves."""
    return frozenset(name for host in config.hosts.values() if host.upstream for name in host.upstream.models)


def check_remotes(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find remote hosts that cannot be asked, and a local one that is written like a remote one."""
    lending = lending_hosts(parsed.config)
    for name, host in parsed.config.hosts.items():
        if host.role == "local":
            for key in _written_for_remote(host, lends=bool(lending)):
                yield parsed.locate(_not_remote(name, key), ("hosts", name, key), at_key=True)
        elif host.upstream is None and name not in lending:
            yield parsed.locate(_serves_nothing(name), ("hosts", name), at_key=True)
        elif host.upstream is not None and host.address is None:
            yield parsed.locate(_no_address(name), ("hosts", name, "upstream"))


def _written_for_remote(host: HostSpec, *, lends: bool) -> Iterator[str]:
    """List what a local host does without; its address is what RPC servers know it by."""
    if host.address is not None and not lends:
        yield "address"
    if host.rpc is not None:
        yield "rpc"
    if host.upstream is not None:
        yield "upstream"


def check_served(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find models that nothing can serve, and instances of models that have no weights."""
    remote = remote_models(parsed.config)
    for index, model in enumerate(parsed.config.models):
        if model.versions:
            continue
        if model.id not in remote:
            yield parsed.locate(_unreachable(model.id), ("models", index, "id"))
            continue
        for profile, instance in model.profiles.items():
            if instance is not None:
                address = ("models", index, "profiles", profile)
                yield parsed.locate(_no_weights(model.id, profile), address, at_key=True)


def _not_remote(host: str, key: str) -> Diagnostic:
    return Diagnostic(
        code="KI228",
        summary="Local host written like a remote one",
        detail=f"{host} is the local host (`role: local` is the default) and has `{key}`, which only a remote one has.",
        hint=f"Add `role: remote` to {host} if it is another machine; take `{key}` out if it is this one.",
    )


def _serves_nothing(host: str) -> Diagnostic:
    return Diagnostic(
        code="KI227",
        summary="Remote host that serves nothing",
        detail=f"{host} has no `upstream`: nothing says what answers requests there.",
        hint=f"Add `upstream:` with what {host} serves, or take it out of the file.",
        severity=Severity.WARNING,
    )


def _no_address(host: str) -> Diagnostic:
    return Diagnostic(
        code="KI226",
        summary="Upstream without address",
        detail=f"{host} has an `upstream` and no `address`: nothing says where it is reached.",
        hint="Add `address:` with its host name or IP address, such as 100.64.0.7.",
    )


def _unreachable(model: str) -> Diagnostic:
    return Diagnostic(
        code="KI229",
        summary="Model that nothing serves",
        detail=f"{model} has no `versions`, so nothing runs it here, and no remote host serves it.",
        hint="Add a version with its `gguf_url`, or name it in `upstream.models` of the remote host that serves it.",
    )


def _no_weights(model: str, profile: str) -> Diagnostic:
    return Diagnostic(
        code="KI230",
        summary="Instance without weights",
        detail=f"{model} shall run under {profile} and has no `versions`: there are no weights to load.",
        hint="Add a version with its `gguf_url`, or take the profile out: remote hosts serve the model without one.",
    )
