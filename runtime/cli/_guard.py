# SPDX-License-Identifier: Apache-2.0
"""How a command ends: one line for an error of ours, never a traceback without --debug."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable

from secondeye.runtime.errors import SecondEyeError


def end_as_interrupted() -> None:
    """What ends a service, and a terminal that is closed, end the work well, as Ctrl-C does; not where nohup asks for
    more.
    """
    for ending in (getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)):
        if signal.getsignal(ending) != signal.SIG_IGN:
            signal.signal(ending, signal.default_int_handler)


def guarded(command: Callable[[], object]) -> None:
    """Run a command; an error of ours becomes one line and exit code 2 (usage, input) or 1 (the rest)."""
    debug = "--debug" in sys.argv[1:]
    # Accepted anywhere on the line.
    sys.argv = [sys.argv[0], *(word for word in sys.argv[1:] if word != "--debug")]
    try:
        command()
    except SecondEyeError as error:
        if debug:
            raise
        print(f"secondeye: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(1)
    except MemoryError:
        if debug:
            raise
        print("secondeye: not enough memory for a picture of this size; give a smaller --size.", file=sys.stderr)
        sys.exit(1)
