"""New rows whose columns are not those that were fitted."""

from collections.abc import Sequence
from typing import Any

import xarray as xr

from bayesgmm import names
from bayesgmm.labels import Given, listed


def refuse_other_columns(X_new: Any, given: Given, fitted: Sequence[Any]) -> None:
    """Refuse new rows whose columns are not the fitted ones in the fitted order."""
    count, shape, name = len(fitted), given.cells.shape, given.argument
    what = f"the {count} fitted columns, {listed(fitted)}"
    got = given.features
    if getattr(X_new, "ndim", 2) == 1 and shape[1] != count:
        raise ValueError(
            f"`{name}` must be 2-D with {what}; got shape {X_new.shape}. Pass a single row "
            f"as `{name}[None, :]`, one row of a DataFrame as `frame.iloc[[0]]`."
        )
    if shape[1] != count and not given.named:
        raise ValueError(
            f"`{name}` must have {what}; got shape {shape}. Pass the features that were fitted."
        )
    if got == fitted or not given.named:
        return
    select = f"`{name}[{fitted!r}]`"
    if isinstance(X_new, xr.DataArray):
        dim = given.coords[names.FEATURE].attrs.get(names.GIVEN_NAME, names.FEATURE)
        select = f"`{name}.sel({{{dim!r}: {fitted!r}}})`"
    rule = f"`{name}` must have {what}, in this order; got {listed(got)}"
    if sorted(map(repr, got)) == sorted(map(repr, fitted)):
        raise ValueError(f"{rule}. Reorder them: {select}.")
    missing = [label for label in fitted if label not in got]
    unknown = [label for label in got if label not in fitted]
    if not missing:
        raise ValueError(f"{rule}. Keep only the fitted ones: {select}.")
    remedy = "Add what is missing"
    if len(got) == count:
        remedy = "Rename them if they are the same quantities in the same order"
    raise ValueError(
        f"{rule}; missing {listed(missing)}, unknown {listed(unknown) or 'none'}. {remedy}."
    )
