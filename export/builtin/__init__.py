# SPDX-License-Identifier: Apache-2.0
"""The built-in depth model: the scenes that teach it, the network, its training and its export."""
