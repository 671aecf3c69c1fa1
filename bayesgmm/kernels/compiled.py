"""How kernels are compiled, and when what was compiled is still good.

Numba keeps compiled functions on disk and reads them back as long as the file that defines a
function has not changed. But a function holds the code of those it calls, from whatever file: a
kernel changed in one file would live on, silently, inside its callers in the others. Here a change
of any kernel file makes all of them be compiled anew.

Nothing is compiled or read back before it is used, so that importing a kernel costs little, and
whoever waits for a compilation has been told.
"""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, cast

from llvmlite import binding
from numba import types
from numba.core.caching import FunctionCache, NullCache
from numba.core.ccallback import CFunc
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import CPUDispatcher
from numba.core.typing import Signature

NOTICE: Final = "Compiling bayesgmm's kernels, once per machine: up to a minute"


def _fingerprint() -> str:
    """Return a digest of all kernel files, comments included."""
    digest = sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


FINGERPRINT = _fingerprint()


def _to_stderr(message: str) -> None:
    """Write a line for the user to see at once."""
    if sys.stderr is not None:  # None: a program without a console
        sys.stderr.write(f"{message}\n")
        sys.stderr.flush()


_tellers: Final[list[Callable[[str], None]]] = [_to_stderr]
"""Who tells the user that kernels are compiled: the last."""
_told: Final[set[str]] = set()
"""What has been said in this process and need not be said again."""
_unlinked: "Final[list[tuple[str, Callback]]]" = []
"""Symbols that compiled code may call, and the functions that are yet to be put behind them."""


@contextmanager
def telling(tell: Callable[[str], None]) -> Iterator[None]:
    """Let `tell` say that kernels are compiled, should they have to be."""
    _tellers.append(tell)
    try:
        yield
    finally:
        _tellers.remove(tell)


class _Cache(NullCache):  # type: ignore[misc]
    """What was compiled of one function, on disk as long as no kernel file changes.

    Where nothing can be written there is no cache: every process compiles anew, and says so.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._disk: Any = NullCache()
        try:
            self._disk = FunctionCache(function)
        except RuntimeError:  # neither the package's own folder nor the user's can be written
            return
        self._disk._cache_file._source_stamp = FINGERPRINT  # Numba's own affair; a test holds it

    @property
    def cache_path(self) -> Any:
        """The folder."""
        return self._disk.cache_path

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return what was compiled for a signature, or None: then it is about to be."""
        found = self._disk.load_overload(sig, target_context)
        if found is None and NOTICE not in _told:
            _told.add(NOTICE)
            _tellers[-1](NOTICE)
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep what was compiled, where that is possible."""
        try:
            self._disk.save_overload(sig, data)
        except OSError as error:  # a full disk, say
            _warn_lost(f"({error})")
        if self._disk.cache_path is None:
            _warn_lost("(neither bayesgmm's own folder nor your cache folder can be written)")


def _warn_lost(reason: str) -> None:
    """Warn, once in a process, that the next process compiles anew."""
    message = (
        f"What was compiled cannot be kept {reason}: every process compiles it anew, up to a "
        f"minute. Set the environment variable NUMBA_CACHE_DIR to a folder that can be written."
    )
    if message not in _told:
        _told.add(message)
        warnings.warn(message, RuntimeWarning, stacklevel=2)


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
    options = {
        "nopython": True,
        "nogil": True,
        "error_model": "numpy",
        "fastmath": set(fastmath) or False,
    }

    def compiled(function: F) -> Any:
        dispatcher = _Kernel(function, targetoptions=options)
        dispatcher.enable_caching()
        return dispatcher

    return compiled if function is None else compiled(function)


class _Kernel(CPUDispatcher):  # type: ignore[misc]
    """What Numba's `njit` makes of a function, but with the cache above and with symbols linked."""

    def enable_caching(self) -> None:
        """Keep what is compiled on disk."""
        self._cache = _Cache(self.py_func)

    def compile(self, sig: Any) -> Any:
        """Compile for a signature, or read back what was compiled."""
        link()
        return super().compile(sig)


class Callback(CFunc):
    """A function that C can call by its address, compiled when that is first asked for."""

    _wrapper_address: int | None

    def __init__(self, function: Callable[..., Any], signature: Signature) -> None:
        super().__init__(
            function, (signature.args, signature.return_type), locals={},
            options={"error_model": "numpy"},
        )  # fmt: skip
        self._cache = _Cache(function)

    @property
    def address(self) -> int:
        """Where the compiled function is."""
        if self._wrapper_address is None:
            link()
            self.compile()
        return cast(int, self._wrapper_address)


def callback(signature: Signature) -> Callable[[Callable[..., Any]], Callback]:
    """Compile a function, when it is first used, to one that C can call; cached on disk."""
    return lambda function: Callback(function, signature)


def linked(name: str, function: Callback, signature: Signature) -> Any:
    """Return a C function under a name that kernels can call without holding its code.

    A kernel that calls another one holds a copy of its code and is optimised with it, seconds
    each time for a long one. What calls a symbol stays short; no address is part of it, so that
    it can still be cached on disk.
    """
    symbol = f"bayesgmm_{name}"
    _unlinked.append((symbol, function))
    return types.ExternalFunction(symbol, signature)


def link() -> None:
    """Put the functions behind the symbols that compiled code is about to call.

    To be done before any code that calls them is compiled or read back, and not in the midst of
    compiling: a function behind a symbol may call the kernel that is being compiled. What calls a
    function by its symbol was defined after it, so that all can be compiled in the order of
    definition.
    """
    with global_compiler_lock:
        pending = _unlinked.copy()
        _unlinked.clear()  # compiling a function comes here again
        try:
            while pending:
                symbol, function = pending[0]
                binding.add_symbol(symbol, function.address)
                del pending[0]
        finally:  # interrupted: the rest is still to be done
            _unlinked[:0] = pending
