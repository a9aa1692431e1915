"""Names of the files in repositories of the Hugging Face hub, for configurations that name none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.errors import HTTPError as ClientError  # type: ignore[attr-defined]  # imported there, not listed

ANSWER_S = 10.0


def list_repositories(names: Sequence[str], *, endpoint: str | None = None) -> Mapping[str, tuple[str, ...]]:
    """List the files of repositories; one that cannot be asked for is left out, and nobody else is asked after it."""
    api = HfApi(endpoint=endpoint)
    found: dict[str, tuple[str, ...]] = {}
    for name in names:
        try:
            siblings = api.model_info(name, timeout=ANSWER_S).siblings or ()
        except (HfHubHTTPError, HFValidationError):
            continue
        except (ClientError, OSError):
            break
        found[name] = tuple(sibling.rfilename for sibling in siblings)
    return found
