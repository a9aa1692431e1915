"""Every check of models.yaml, in the order in which they run: of the file alone, and of the file with the lock."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kloros_infra.compiler.check_announcements import check_announcements
from kloros_infra.compiler.check_arguments import check_arguments
from kloros_infra.compiler.check_clients import check_clients
from kloros_infra.compiler.check_effect import check_effect
from kloros_infra.compiler.check_given_ports import check_given_ports
from kloros_infra.compiler.check_groups import check_groups
from kloros_infra.compiler.check_headers import check_templates, check_vocabularies
from kloros_infra.compiler.check_hosts import check_remotes, check_served
from kloros_infra.compiler.check_limits import check_limits
from kloros_infra.compiler.check_models import check_chat_templates, check_drafts, check_projectors, check_versions
from kloros_infra.compiler.check_personas import check_json, check_personas, check_response_formats, check_tools
from kloros_infra.compiler.check_profiles import check_manual, check_order, check_shares
from kloros_infra.compiler.check_reach import check_remote_reach
from kloros_infra.compiler.check_relax import check_reasons
from kloros_infra.compiler.check_repeats import check_repeats
from kloros_infra.compiler.check_rpc import check_rpc
from kloros_infra.compiler.check_rules import check_rules, check_shadows
from kloros_infra.compiler.hardware import check_gpus, check_hosts, check_profiles
from kloros_infra.compiler.locked import check_lock
from kloros_infra.compiler.parse import Parsed
from kloros_infra.compiler.purposes import check_circles, check_costs, check_default, check_reach
from kloros_infra.compiler.references import check_references, check_use
from kloros_infra.compiler.unique import check_names, check_ports, check_spelling
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.lock import Lock

CHECKS: tuple[Callable[[Parsed], Iterator[Diagnostic]], ...] = (
    check_hosts,
    check_remotes,
    check_remote_reach,
    check_rpc,
    check_gpus,
    check_profiles,
    check_order,
    check_references,
    check_use,
    check_served,
    check_names,
    check_spelling,
    check_repeats,
    check_versions,
    check_ports,
    check_given_ports,
    check_limits,
    check_shares,
    check_manual,
    check_groups,
    check_projectors,
    check_drafts,
    check_chat_templates,
    check_arguments,
    check_reasons,
    check_personas,
    check_response_formats,
    check_tools,
    check_json,
    check_default,
    check_circles,
    check_reach,
    check_costs,
    check_rules,
    check_shadows,
    check_clients,
    check_announcements,
    check_effect,
)
LOCK_CHECKS: tuple[Callable[[Parsed, Lock], Iterator[Diagnostic]], ...] = (
    check_lock,
    check_vocabularies,
    check_templates,
)
