# SPDX-License-Identifier: Apache-2.0
"""Watts and clocks while something runs: NVML (extra ``bench``), tegrastats on Jetson, RAPL and /proc on a PC."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

_RAIL = re.compile(r"\b(VDD_IN|POM_5V_IN|VIN_SYS_5V0|VIN)\s+(\d+)(?:mW)?/")
_CLOCK = re.compile(r"GR3D_FREQ\s+\d+%(?:@\[?(\d+))?")


def tegrastats_values(line: str) -> dict[str, float]:
    """Board watts and the GPU's MHz from a line of tegrastats, as far as it has them."""
    values: dict[str, float] = {}
    rail, clock = _RAIL.search(line), _CLOCK.search(line)
    if rail:
        values["board_w"] = int(rail[2]) / 1000
    if clock and clock[1]:
        values["gpu_mhz"] = float(clock[1])
    return values


def _rapl_joules(root: Path) -> float | None:
    try:
        return sum(int(p.read_text()) for p in sorted(root.glob("intel-rapl:[0-9]/energy_uj"))) / 1e6 or None
    except OSError:  # there, and for root alone
        return None


def _cpu_mhz(path: Path) -> float | None:
    try:
        found = re.findall(r"^cpu MHz\s*:\s*([\d.]+)", path.read_text(), re.MULTILINE)
    except OSError:
        return None
    return sum(map(float, found)) / len(found) if found else None


class PowerMeter:
    """Samples twice a second between ``with`` and its end; :meth:`report` then says what there was to read.

    Args:
        powercap, cpuinfo: where Linux shows a PC's energy and clocks.
    """

    def __init__(self, powercap: Path = Path("/sys/class/powercap"), cpuinfo: Path = Path("/proc/cpuinfo")) -> None:
        self._powercap, self._cpuinfo = powercap, cpuinfo
        self._samples: dict[str, list[float]] = {}
        self._missing: list[str] = []
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._tegrastats: subprocess.Popen[str] | None = None

    def _note(self, name: str, value: float | None) -> None:
        if value is not None:
            self._samples.setdefault(name, []).append(value)

    def _nvml(self) -> Any:
        try:
            import pynvml
        except ImportError:
            self._missing.append("NVML (no nvidia-ml-py)")
            return None
        try:
            pynvml.nvmlInit()
            return pynvml.nvmlDeviceGetHandleByIndex(0)
        except pynvml.NVMLError as error:
            self._missing.append(f"NVML ({error})")
            return None

    def _sample(self, nvml: Any) -> None:
        joules, last = _rapl_joules(self._powercap), time.perf_counter()
        while not self._stop.wait(0.5):
            now_joules, now = _rapl_joules(self._powercap), time.perf_counter()
            if joules is not None and now_joules is not None and now_joules >= joules:  # the counter wraps round
                self._note("cpu_w", (now_joules - joules) / (now - last))
            joules, last = now_joules, now
            self._note("cpu_mhz", _cpu_mhz(self._cpuinfo))
            if nvml is not None:
                import pynvml

                try:
                    self._note("gpu_w", pynvml.nvmlDeviceGetPowerUsage(nvml) / 1000)
                    self._note("gpu_mhz", float(pynvml.nvmlDeviceGetClockInfo(nvml, pynvml.NVML_CLOCK_SM)))
                except pynvml.NVMLError:
                    nvml = None

    def _read_tegrastats(self, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or ():
            for name, value in tegrastats_values(line).items():
                self._note(name, value)

    def __enter__(self) -> PowerMeter:
        nvml = self._nvml()
        self._threads.append(threading.Thread(target=self._sample, args=(nvml,), daemon=True))
        program = shutil.which("tegrastats")
        if program is None:
            self._missing.append("tegrastats (no Jetson)")
        else:
            self._tegrastats = subprocess.Popen(
                [program, "--interval", "500"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            self._threads.append(threading.Thread(target=self._read_tegrastats, args=(self._tegrastats,), daemon=True))
        if _rapl_joules(self._powercap) is None:
            self._missing.append("RAPL (not shown by this system)")
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._tegrastats is not None:
            self._tegrastats.terminate()
            self._tegrastats.wait(5)
        for thread in self._threads:
            thread.join(5)

    def report(self) -> dict[str, Any]:
        """Mean, least and greatest of everything that was read, and what could not be."""
        values = {
            name: {"mean": round(sum(v) / len(v), 2), "min": round(min(v), 2), "max": round(max(v), 2)}
            for name, v in sorted(self._samples.items())
        }
        return values | {"not_read": self._missing}
