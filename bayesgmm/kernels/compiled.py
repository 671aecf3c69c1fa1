"""How kernels are compiled, and when what was compiled is still good.

Numba keeps compiled functions on disk and reads them back as long as the file that defines a
function has not changed. But a function holds the code of those it calls, from whatever file: a
kernel changed in one file would live on, silently, inside its callers in the others. Here a change
of any kernel file makes all of them be compiled anew.
"""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from llvmlite import binding
from numba import njit, types
from numba.core.ccallback import CFunc
from numba.core.typing import Signature


def _fingerprint() -> str:
    """Return a digest of all kernel files, comments included."""
    digest = sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


FINGERPRINT = _fingerprint()


def _stamp(compiled: Any) -> None:
    """Let the cache of a function hold as long as no kernel file changes.

    The attributes are Numba's own affair; should they be renamed this fails aloud, rather than
    let an old kernel answer for a new one.
    """
    compiled._cache._cache_file._source_stamp = FINGERPRINT


def kernel[F: Callable[..., Any]](
    function: F | None = None, *, fastmath: frozenset[str] = frozenset()
) -> Any:
    """Compile a function without Python objects, cached on disk, free of the interpreter's lock.

    Parameters
    ----------
    function : callable
    fastmath : frozenset of str
        Freedoms of LLVM's: ``"contract"``, ``"reassoc"``, ``"nsz"``. Never those that assume
        that there are no infinities or NaN.
    """

    def compiled(function: F) -> Any:
        dispatcher = njit(
            nogil=True, cache=True, error_model="numpy", fastmath=set(fastmath) or False
        )(function)
        _stamp(dispatcher)
        return dispatcher

    return compiled if function is None else compiled(function)


def is_cached(dispatcher: Any) -> bool:
    """Tell whether a kernel has been compiled on this machine, as its files are now."""
    return bool(dispatcher.signatures or dispatcher._cache._cache_file._load_index())


def callback(signature: Signature) -> Callable[[Callable[..., Any]], CFunc]:
    """Compile a function, at once, to one that C can call by its address; cached on disk."""

    def compiled(function: Callable[..., Any]) -> CFunc:
        result = CFunc(
            function, (signature.args, signature.return_type), locals={},
            options={"error_model": "numpy"},
        )  # fmt: skip
        result.enable_caching()
        _stamp(result)
        result.compile()
        return result

    return compiled


def linked(name: str, function: CFunc, signature: Signature) -> Any:
    """Return a C function under a name that kernels can call without holding its code.

    A kernel that calls another one holds a copy of its code and is optimised with it, seconds
    each time for a long one. What calls a symbol stays short; no address is part of it, so that
    it can still be cached on disk.
    """
    symbol = f"bayesgmm_{name}"
    binding.add_symbol(symbol, function.address)
    return types.ExternalFunction(symbol, signature)
