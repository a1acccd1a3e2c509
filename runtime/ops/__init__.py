# SPDX-License-Identifier: Apache-2.0
"""The pixel operations: each has one NumPy reference, and every implementation returns exactly its bytes."""

from secondeye.runtime.ops._common import isas
from secondeye.runtime.ops.pack import pack

__all__ = ["isas", "pack"]
