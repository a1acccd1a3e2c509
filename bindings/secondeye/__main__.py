# SPDX-License-Identifier: Apache-2.0
"""``python -m secondeye`` is the ``secondeye`` command."""

from secondeye.runtime.cli import main

main()
