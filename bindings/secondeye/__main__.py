# SPDX-License-Identifier: Apache-2.0
"""``python -m secondeye`` is the ``secondeye`` command."""

import sys


def main() -> None:
    """Run the command; an interrupt while it is loaded ends it without a traceback, too."""
    try:
        from secondeye.runtime.cli import main as command
    except KeyboardInterrupt:
        sys.exit(130)
    command()


if __name__ == "__main__":
    main()
