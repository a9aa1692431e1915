"""What a repository on the hub holds: names and sizes of its files, nothing of their content."""

from __future__ import annotations

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

# The base of its HTTP client's errors: which client that is depends on the version.
from huggingface_hub.errors import HTTPError as ClientError  # type: ignore[attr-defined]  # imported there, not listed

from kloros_infra.adapters import weights_problems
from kloros_infra.adapters.hub import HubPlace
from kloros_infra.adapters.hub_problems import problem_of, transport_problem
from kloros_infra.editing.hub_reference import HubFile, HubReference
from kloros_infra.errors import ObstacleError, UnreachableError

_TIMEOUT_S = 10.0


def list_files(reference: HubReference, *, endpoint: str | None = None) -> tuple[HubFile, ...]:
    """List a repository's files; raise UnreachableError or ObstacleError when that cannot be had."""
    url = f"hf://{reference.repository}"
    place = HubPlace(url, reference.repository, reference.revision, "")
    try:
        # Listing the tree would do too, but tries again for half a minute where nobody answers.
        info = HfApi(endpoint=endpoint).model_info(
            reference.repository, revision=reference.revision, files_metadata=True, timeout=_TIMEOUT_S
        )
    except HfHubHTTPError as error:
        raise problem_of(error, place, None, lambda *_: ()) from error
    except HFValidationError as error:
        hint = "Check the spelling of owner and repository."
        raise ObstacleError([weights_problems.hub_lacks(url, "no repository is called so", hint)]) from error
    except (ClientError, OSError) as error:
        raise UnreachableError([weights_problems.hub_unreachable(url, transport_problem(error))]) from error
    return tuple(HubFile(one.rfilename, one.size or 0) for one in info.siblings or ())
