"""All files of a container that an installation may write beside, to be compared."""

from __future__ import annotations

from tests.system.container import Container

# All folders that are written to, but for the journal and for what systemd itself keeps in /run. What is below /var is
# large: whoever changes a file there changes its time. Accounts stay, as they do when a package is removed.
PASSING = " -o ".join(
    f"-path '{path}'"
    for path in (
        "/etc/kloros",
        "/etc/*passwd*",
        "/etc/*group*",
        "/etc/*shadow*",
        "/var/log/journal",
        "/var/tmp",
        "/run/systemd",
        "/run/udev",
        "/run/log",
    )
)
EVERYTHING = (
    f"find /etc /run /var /usr/lib/kloros-infra \\( {PASSING} \\) -prune -o -type d -printf '%p %M %U %G\\n'"
    " -o -printf '%p %M %U %G %s %T@ %l\\n' 2>/dev/null;"
    f" find /etc \\( {PASSING} \\) -prune -o -type f -exec sha256sum {{}} +"
)


def everything(container: Container) -> frozenset[str]:
    """List files, folders and links with owner and mode, and what tells their contents apart."""
    return frozenset(container.run(["sh", "-c", EVERYTHING]).stdout.splitlines())
