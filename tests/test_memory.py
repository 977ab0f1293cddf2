"""The C library keeps what is freed: measured by the pages that the system hands out."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from replication import memory

PROGRAM = """
import resource, sys
import torch
from replication import memory

if sys.argv[1] == "kept":
    memory.keep_freed_pages()
taken = []
for _ in range(16):  # the first few come from new pages in any case, until the freed ones lie together
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**23)  # 32 MiB, 8192 pages
    taken.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(*taken[-4:])
"""


def faults(how: str) -> list[int]:
    command = [sys.executable, "-c", PROGRAM, how]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return [int(word) for word in answer.stdout.split()]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_pages_are_used_again():
    assert max(faults("kept")) < 1000
    # Without it, every tensor of this size is mapped anew (in larger pages, where the system hands those out).
    assert min(faults("given back")) > max(faults("kept"))


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _name: object())
    memory.keep_freed_pages()
