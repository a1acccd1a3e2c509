# SPDX-License-Identifier: Apache-2.0
"""Exporters: one model, one file."""
