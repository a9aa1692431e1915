"""What a repository on the hub holds: names and sizes of its files, nothing of their content."""

from __future__ import annotations

from huggingface_hub import HfApi

from kloros_infra.adapters.hub_place import SCHEME, HubPlace
from kloros_infra.adapters.hub_problems import explained
from kloros_infra.editing.hub_reference import HubFile, HubReference
from kloros_infra.errors import KlorosError

ANSWER_S = 10.0


def list_files(
    reference: HubReference, *, endpoint: str | None = None, answer_s: float = ANSWER_S
) -> tuple[HubFile, ...]:
    """List a repository's files; raise UnreachableError or ObstacleError when that cannot be had."""
    place = HubPlace(f"{SCHEME}{reference.repository}", reference.repository, reference.revision)
    with explained(place, None):
        # Listing the tree would do too, but tries again for half a minute where nobody answers.
        info = HfApi(endpoint=endpoint).model_info(
            reference.repository, revision=reference.revision, files_metadata=True, timeout=answer_s
        )
        return tuple(HubFile(str(one.rfilename), int(one.size or 0)) for one in info.siblings or ())


def names_for_hint(place: HubPlace, *, endpoint: str | None, answer_s: float) -> tuple[str, ...] | None:
    """List the files beside one that is not there; None where that fails, which is no problem of its own."""
    reference = HubReference(place.repository, place.revision)
    try:
        return tuple(file.path for file in list_files(reference, endpoint=endpoint, answer_s=answer_s))
    except KlorosError:
        return None
