# SPDX-License-Identifier: Apache-2.0
"""Build time: trained checkpoints become ONNX graphs and engines. torch lives here and nowhere else."""
