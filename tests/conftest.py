"""What holds for every test."""

from __future__ import annotations

import signal

# A shell without job control starts what it puts in the background with Ctrl-C ignored (POSIX, 2.11 "Signals and Error
# Handling"), as nohup(1) does with SIGHUP; every process below inherits that, and tests that interrupt a command would
# wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
