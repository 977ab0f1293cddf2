"""The device of a run, its settings, and what there is to know about the machine afterwards."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import torch

from replication.config import RuntimeParams
from replication.errors import TrainingError

# What torch.compile needs, by the type of device: the language, what to install, and what it may be called.
_COMPILERS = {
    "cpu": ("C++", "g++", (os.environ.get("CXX", "c++"), "g++", "clang++")),
    "cuda": ("C", "gcc", (os.environ.get("CC", "gcc"), "gcc", "clang")),
}
# What tells apart processors of one name: x86's keys in /proc/cpuinfo, and ARM's.
_GENERATION = ("cpu family", "model", "stepping", "CPU implementer", "CPU part")
_PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "safetensors")


def choose_device(runtime: RuntimeParams) -> torch.device:
    """The device that `runtime.device` names; sets the number of CPU threads and, on CUDA, the current device,
    deterministic kernels and float32 without TF32.

    Raises:
        TrainingError: CUDA is asked for and is not there, or compiling is and there is no compiler.
    """
    torch.set_num_threads(runtime.threads)
    name = runtime.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and "LOCAL_RANK" in os.environ:  # one process per GPU, as torchrun starts them
        local = os.environ["LOCAL_RANK"]
        if not local.isascii() or not local.isdecimal():
            raise TrainingError(f"LOCAL_RANK={local} is no number of a GPU; unset it, or start with torchrun")
        name = f"cuda:{local}"
    device = torch.device(name)
    if runtime.compile == "always" and device.type in _COMPILERS:
        language, package, names = _COMPILERS[device.type]
        if not any(map(shutil.which, names)):
            raise TrainingError(
                f"runtime.compile: always needs a {language} compiler; install {package}, or set it to never"
            )
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise TrainingError("runtime.device asks for CUDA and PyTorch sees no GPU here; set it to auto or cpu")
        if (device.index or 0) >= torch.cuda.device_count():
            count = torch.cuda.device_count()
            raise TrainingError(
                f"runtime.device is {name} and there are {count} GPUs, from cuda:0 on; name one of them"
            )
        torch.cuda.set_device(device.index or 0)  # for NCCL, and whatever else names no device
        # float32 is float32: cuDNN would round the inputs of convolutions to TF32's ten bits.
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        # The same numbers from the same seed, also of what is no convolution; a kernel that cannot warns and runs.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
    return device


def forget_peak_memory(device: torch.device) -> None:
    """Let `peak_memory` begin anew, as far as the system can: what an earlier run in this process took is not the next
    one's. What is still held counts.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError):  # Linux alone has it, and some containers do not let it be written
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory(device: torch.device) -> int:
    """Most memory held since `forget_peak_memory`, in bytes: by the CUDA allocator, or resident in this process on the
    CPU (there, but on Linux, since it began).
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes if sys.platform == "darwin" else kilobytes * 1024


def describe_hardware(device: torch.device) -> dict[str, Any]:
    """Device, processor, threads and memory, for run.json."""
    processor = _processor()
    return {
        "device": str(device),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cpu": processor.get("model name") or platform.processor() or platform.machine(),
        "cpu_model": ", ".join(f"{key} {processor[key]}" for key in _GENERATION if key in processor) or None,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
    }


def describe_versions() -> dict[str, str]:
    """Versions of Python and of the packages that determine numbers."""
    versions = {"python": platform.python_version(), **{name: metadata.version(name) for name in _PACKAGES}}
    if torch.version.cuda:
        versions["cuda"] = torch.version.cuda
    return versions


def describe_git(package: Path = Path(__file__).parents[1]) -> dict[str, Any]:
    """Commit of the working tree and whether the package differs from it, new files included; nulls outside a git
    checkout. What else differs is no code, or recorded as it was (the parameters).
    """

    def ask(*arguments: str) -> str | None:
        try:
            command = ["git", "--no-optional-locks", *arguments]  # looks, and leaves no lock behind if it is killed
            answer = subprocess.run(command, capture_output=True, text=True, timeout=10, cwd=package, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        return answer.stdout.strip()

    commit, changes = ask("rev-parse", "HEAD"), ask("status", "--porcelain", "--untracked-files=all", "--", ".")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def _processor(path: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """What Linux says of the first processor; nothing elsewhere."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
