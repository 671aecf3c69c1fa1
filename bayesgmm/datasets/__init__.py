"""Real data sets that come with the package, and simulated mixtures."""

from bayesgmm.datasets.bundled import (
    load_airquality,
    load_banknote,
    load_faithful,
    load_galaxies,
    load_iris,
    load_wholesale,
)
from bayesgmm.datasets.simulated import make_mixture

__all__ = [
    "load_airquality",
    "load_banknote",
    "load_faithful",
    "load_galaxies",
    "load_iris",
    "load_wholesale",
    "make_mixture",
]
