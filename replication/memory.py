"""How memory is kept, and telling that it ran out, in all the ways in which Python, PyTorch and the system say so."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import re

ADVICE = (
    "lower runtime.memory_limit_gib (on a GPU host_limit_gib, too), evaluation.batch_size or optimizer.batch_size in"
    " params.yaml, or use a machine with more memory"
)
# PyTorch's CPU allocator, C++ and oneDNN raise RuntimeErrors, the dynamic loader an ImportError.
_SIGNS = re.compile(
    r"not enough memory|can't allocate memory|cannot allocate memory|out of memory|bad_alloc|ALLOC_FAILED"
    r"|can't start new thread|failed to map segment|could not create a (memory|primitive)",
    re.IGNORECASE,
)

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT = 2**30


def keep_freed_pages() -> None:
    """Let the C library keep up to 1 GiB that was freed instead of giving it back to the system at once.

    By default it maps every large tensor anew, and the system then zeroes each page at its first touch: without
    gradients, where every layer's output is freed as soon as the next is computed, that takes longer than the
    arithmetic. Does nothing where the C library is not glibc.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _KEPT)
        mallopt(_M_TRIM_THRESHOLD, _KEPT)


def ran_out(error: BaseException) -> bool:
    """Whether an exception means that there was not enough memory."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # the latter is PyTorch's
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError | ImportError) and _SIGNS.search(str(error)) is not None


def explain(error: BaseException) -> str:
    """One line: that memory ran out, where, and what helps."""
    lines = str(error).splitlines()
    where = lines[0][:160] if lines and lines[0] else "host"
    return f"out of memory ({where}); {ADVICE}"
