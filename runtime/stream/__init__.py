# SPDX-License-Identifier: Apache-2.0
"""Live pictures from somewhere to somewhere: cameras, films, screens and pipes in; files, pipes and a web page out."""
