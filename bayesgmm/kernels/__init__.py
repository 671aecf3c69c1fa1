"""Arrays in, arrays out: the numerical core, compiled by Numba."""
