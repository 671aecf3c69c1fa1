"""Clusters of the rows, from a fit or from any sampler's labels, with their uncertainty."""
