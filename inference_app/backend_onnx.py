# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""ONNX Runtime: serves what export proved equal to scikit-learn, without importing scikit-learn."""

from __future__ import annotations

import os
from typing import Any

# read once, when it is imported: without this it writes an id to the disk and reports to its maker
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime
from numpy.typing import NDArray

from .errors import ModelError
from .model import Matrix

onnxruntime.set_default_logger_severity(4)  # it writes to stderr what it also raises


class OnnxBackend:
    """A graph of one float64 input (rows, features) and one output."""

    name = "onnx"

    def __init__(self, graph: bytes, where: str, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # a spinning pool burns the CPU limit, an arena the memory limit
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.enable_cpu_mem_arena = False
        try:
            self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no base of their own
            raise ModelError(
                f"{where}: not a graph that ONNX Runtime {onnxruntime.__version__} loads: {error}"
            ) from None
        self._input = self._session.get_inputs()[0].name
        self._outputs = [self._session.get_outputs()[0].name]

    def __call__(self, rows: Matrix) -> NDArray[Any]:
        result: NDArray[Any] = self._session.run(self._outputs, {self._input: rows})[0]
        return result
