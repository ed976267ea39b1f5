"""Measures: signal analysis and the statistics of validation on numpy arrays."""
