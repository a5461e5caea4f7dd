"""The one door to numba: a compiled function that keeps its Python type.

Keep arithmetic out. Numba's disk cache watches only the file of the compiled function itself, so a kernel may call
kernels of its own module only: after an edit elsewhere a stale machine code would answer.
"""

from collections.abc import Callable
from typing import TypeVar, cast

import numba

_F = TypeVar("_F", bound=Callable[..., object])


def kernel(function: _F) -> _F:
    """Compile a function of arrays and numbers with numba, cached on disk.

    Args:
        function: a plain function within numba's nopython subset, whose callees are kernels of the same module.

    Returns:
        The compiled function under the type of the plain one.

    Source:
        numba documentation, "Caching compiled functions" (limitations).
    """
    compiled: object = numba.njit(cache=True)(function)
    return cast("_F", compiled)
