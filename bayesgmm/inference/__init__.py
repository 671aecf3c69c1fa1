"""Fitting: from a specification and data to a tree."""
