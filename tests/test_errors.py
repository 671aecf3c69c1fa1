"""What messages say of what was passed."""

import numpy as np
import pandas as pd
import pytest

import bayesgmm as bg
from bayesgmm.errors import got


def test_what_was_passed_is_on_one_line_and_short() -> None:
    assert got(2.5) == "2.5 of type float"
    assert got("x" * 58) == f"'{'x' * 58}' of type str"
    assert got("x" * 59) == f"'{'x' * 56}... of type str"
    table = pd.DataFrame(np.arange(400.0).reshape(100, 4))
    assert "\n" not in got(table)
    assert got(table).endswith("... of type DataFrame")


def test_arguments_in_the_wrong_order_do_not_print_the_data() -> None:
    table = pd.DataFrame(np.arange(400.0).reshape(100, 4))
    for call in (lambda: bg.fit(2, table), lambda: bg.GaussianMixture(table)):  # type: ignore
        with pytest.raises(TypeError, match=r"; got .{60} of type DataFrame\. ") as caught:
            call()
        assert "\n" not in str(caught.value)
