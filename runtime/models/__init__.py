# SPDX-License-Identifier: Apache-2.0
"""Models that are more than one graph: how a bundle's engines work together."""
