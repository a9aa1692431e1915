"""Read the files that steer the router: the routing table, the active profile, and how the cards stand."""

from __future__ import annotations

from pydantic import ValidationError

from kloros_infra.daemon.ports import WatchedText
from kloros_infra.daemon.request_problems import (
    cards_unreadable,
    other_version,
    profile_missing,
    profile_unknown,
    table_unreadable,
)
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.cards_report import CardsReport
from kloros_infra.ir.routing import RoutingTable


def read_table(file: WatchedText) -> RoutingTable | Diagnostic:
    """Read routing.json; give a problem for a file that is missing, cut short, or of another version."""
    try:
        table = RoutingTable.model_validate_json(file.read())
    except OSError as error:
        return table_unreadable(file.name, error.strerror or str(error))
    except UnicodeDecodeError:
        return table_unreadable(file.name, "it is not UTF-8 text")
    except ValidationError as error:
        for problem in error.errors():
            if problem["loc"] == ("version",) and problem["type"] == "literal_error":
                return other_version(file.name, problem["input"])
        return table_unreadable(file.name, _first_of(error))
    return table if table.profiles else table_unreadable(file.name, "it has no profiles")


def read_profile(file: WatchedText, table: RoutingTable, current: str | None) -> tuple[str, Diagnostic | None]:
    """Give the profile that the file names; else the current one, or the table's last, and a problem."""
    # The last profile asks least of the machine.
    kept = current if current is not None and current in table.profile_names else table.profile_names[-1]
    try:
        profile = file.read().strip()
    except (OSError, UnicodeDecodeError):
        return kept, profile_missing(file.name, kept)
    return (profile, None) if profile in table.profile_names else (kept, profile_unknown(file.name, profile, kept))


def read_cards(file: WatchedText) -> CardsReport | Diagnostic | None:
    """Read how the cards stand; None where nobody has said it yet."""
    try:
        return CardsReport.model_validate_json(file.read())
    except FileNotFoundError:
        return None
    except OSError as error:
        return cards_unreadable(file.name, error.strerror or str(error))
    except UnicodeDecodeError:
        return cards_unreadable(file.name, "it is not UTF-8 text")
    except ValidationError as error:
        return cards_unreadable(file.name, _first_of(error))


def _first_of(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else first["msg"]
