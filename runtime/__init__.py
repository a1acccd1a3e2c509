# SPDX-License-Identifier: Apache-2.0
"""Run time: pictures and bundles in, stereo frames out. No torch here."""
