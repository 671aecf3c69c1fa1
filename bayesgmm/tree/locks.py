"""What xarray locks while it writes."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def own_locks() -> Iterator[None]:
    """Keep xarray from asking a cluster that is active to lock what only this process has."""
    if "distributed" not in sys.modules:
        yield
        return
    import dask

    with dask.config.set(scheduler="threads"):
        yield
