# SPDX-License-Identifier: Apache-2.0
"""Films: decoding, steady depth, segments that survive a kill, encoding."""
