"""Real data sets that come with the package."""

from importlib.resources import files

import pandas as pd


def load_faithful() -> pd.DataFrame:
    """Return eruptions of Old Faithful, a geyser in Yellowstone National Park.

    Returns
    -------
    DataFrame, 272 rows
        ``eruptions``: how long each eruption lasted; ``waiting``: the time to the next one;
        both in minutes. ``attrs`` hold the units and the source.

    Notes
    -----
    The values are those of the data set ``faithful`` of R, which took them from Haerdle;
    Azzalini & Bowman describe the geyser and a longer record. Measured facts, which nobody
    owns; bundled under the licence of this package.

    References
    ----------
    Azzalini & Bowman (1990), A look at some data on the Old Faithful geyser, Applied
    Statistics 39, 357-365. doi:10.2307/2347385

    Haerdle (1991), Smoothing Techniques: With Implementation in S, Springer.

    Examples
    --------
    >>> load_faithful().head(3)
       eruptions  waiting
    0      3.600       79
    1      1.800       54
    2      3.333       74
    """
    return _bundled(
        "faithful.csv", "min", "Haerdle (1991); Azzalini & Bowman (1990), doi:10.2307/2347385"
    )


def load_iris() -> pd.DataFrame:
    """Return Anderson's measurements of irises of three species.

    Returns
    -------
    DataFrame, 150 rows
        ``sepal_length``, ``sepal_width``, ``petal_length`` and ``petal_width`` in centimetres;
        ``species``: ``"setosa"``, ``"versicolor"`` or ``"virginica"``, 50 of each. ``attrs``
        hold the units and the source.

    Notes
    -----
    The values are those of the data set ``iris`` of R, which are Fisher's; the copy in the UCI
    repository has errors in rows 34 and 37, counting from 0 (Bezdek et al. 1999). Measured
    facts, which nobody owns; bundled under the licence of this package.

    References
    ----------
    Anderson (1935), The irises of the Gaspe Peninsula, Bulletin of the American Iris Society
    59, 2-5.

    Fisher (1936), The use of multiple measurements in taxonomic problems, Annals of Eugenics
    7, 179-188. doi:10.1111/j.1469-1809.1936.tb02137.x

    Bezdek, Keller, Krishnapuram, Kuncheva & Pal (1999), Will the real iris data please stand
    up?, IEEE Transactions on Fuzzy Systems 7, 368-369.

    Examples
    --------
    >>> load_iris().groupby("species")["petal_length"].median()
    species
    setosa        1.50
    versicolor    4.35
    virginica     5.55
    Name: petal_length, dtype: float64
    """
    return _bundled(
        "iris.csv", "cm", "Anderson (1935); Fisher (1936), doi:10.1111/j.1469-1809.1936.tb02137.x"
    )


def load_galaxies() -> pd.DataFrame:
    """Return the velocities of 82 galaxies in the region of Corona Borealis.

    Returns
    -------
    DataFrame, 82 rows
        ``velocity``: at which each galaxy recedes from ours, in 1,000 km/s, ascending. ``attrs``
        hold the units and the source.

    Notes
    -----
    The values are those of the data set ``galaxies`` of the R package MASS, divided by 1,000,
    with a misprint mended: the 78th observation is 26.960, not the 26.690 of MASS (whose manual
    says so). Results published with the uncorrected data differ a little. Measured facts, which
    nobody owns; bundled under the licence of this package.

    References
    ----------
    Postman, Huchra & Geller (1986), Probes of large-scale structures in the Corona Borealis
    region, Astronomical Journal 92, 1238-1247.

    Roeder (1990), Density estimation with confidence sets exemplified by superclusters and
    voids in the galaxies, J. American Statistical Association 85, 617-624.
    doi:10.1080/01621459.1990.10474918

    Examples
    --------
    >>> load_galaxies()["velocity"].iloc[77]
    np.float64(26.96)
    """
    return _bundled(
        "galaxies.csv", "1000 km/s", "Roeder (1990), doi:10.1080/01621459.1990.10474918"
    )


def load_banknote() -> pd.DataFrame:
    """Return measurements of old Swiss thousand-franc notes, half of them counterfeit.

    Returns
    -------
    DataFrame, 200 rows
        ``length`` of the note; its height at the ``left`` and the ``right``; the margin at the
        ``bottom`` and the ``top``; the ``diagonal`` of the picture; all in millimetres.
        ``status``: ``"genuine"`` or ``"counterfeit"``, 100 of each. ``attrs`` hold the units and
        the source.

    Notes
    -----
    The values are those of the book, as in the data set ``banknote`` of the R package mclust.
    Measured facts, which nobody owns; bundled under the licence of this package.

    References
    ----------
    Flury & Riedwyl (1988), Multivariate Statistics: A Practical Approach, Chapman & Hall.
    doi:10.1007/978-94-009-1217-5

    Examples
    --------
    >>> load_banknote().groupby("status")["diagonal"].mean().round(1)
    status
    counterfeit    139.4
    genuine        141.5
    Name: diagonal, dtype: float64
    """
    return _bundled("banknote.csv", "mm", "Flury & Riedwyl (1988), doi:10.1007/978-94-009-1217-5")


def load_airquality() -> pd.DataFrame:
    """Return the air of New York on every day from May to September 1973, with what is missing.

    Returns
    -------
    DataFrame, 153 rows
        ``ozone``, the mean from 13 to 15 h, in parts per billion, missing on 37 days;
        ``radiation`` of the sun, in langleys, missing on 7; ``wind``, the mean speed, in miles
        per hour; ``temperature``, the highest, in degrees Fahrenheit; ``month`` and ``day``.
        ``attrs`` hold the units, by column, and the source.

    Notes
    -----
    The values are those of the data set ``airquality`` of R, from the New York State Department
    of Conservation and the National Weather Service. Measured facts, which nobody owns; bundled
    under the licence of this package.

    References
    ----------
    Chambers, Cleveland, Kleiner & Tukey (1983), Graphical Methods for Data Analysis, Wadsworth.
    doi:10.1201/9781351072304

    Examples
    --------
    >>> load_airquality().isna().sum().loc[["ozone", "radiation", "wind"]].tolist()
    [37, 7, 0]
    """
    units = {"ozone": "ppb", "radiation": "langley", "wind": "mph", "temperature": "°F"}
    return _bundled("airquality.csv", units, "Chambers et al. (1983), doi:10.1201/9781351072304")


def load_wholesale() -> pd.DataFrame:
    """Return what the customers of a Portuguese wholesaler spent in a year.

    Returns
    -------
    DataFrame, 440 rows
        ``fresh``, ``milk``, ``grocery``, ``frozen``, ``detergents_paper`` and ``delicatessen``:
        spent on each in a year, in monetary units; ``channel``: ``"horeca"`` (hotels,
        restaurants, cafes; 298 customers) or ``"retail"`` (142); ``region``: ``"Lisbon"``,
        ``"Oporto"`` or ``"other"``. ``attrs`` hold the units and the source.

    Notes
    -----
    The data set Wholesale customers of the UCI Machine Learning Repository, donated by Margarida
    Cardoso and bundled under its licence, Creative Commons Attribution 4.0 International; columns
    have been renamed, and codes of channels and regions replaced by what they stand for.

    References
    ----------
    Cardoso (2013), Wholesale customers, UCI Machine Learning Repository. doi:10.24432/C5030X

    Baudry, Cardoso, Celeux, Amorim & Sousa Ferreira (2015), Enhancing the selection of a
    model-based clustering with external categorical variables, Advances in Data Analysis and
    Classification 9. doi:10.1007/s11634-014-0177-3

    Examples
    --------
    >>> load_wholesale().groupby("channel")["grocery"].median()
    channel
    horeca     2684.0
    retail    12390.0
    Name: grocery, dtype: float64
    """
    return _bundled(
        "wholesale.csv", "m.u.", "Cardoso (2013), doi:10.24432/C5030X, licence CC BY 4.0"
    )


def _bundled(name: str, units: str | dict[str, str], source: str) -> pd.DataFrame:
    """Return a CSV file of this folder, with its units and source as attributes."""
    with files("bayesgmm.datasets").joinpath(name).open(encoding="utf-8") as file:
        frame = pd.read_csv(file)
    frame.attrs = {"units": units, "source": source}
    return frame
