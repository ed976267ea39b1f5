"""Simulated devices by kind: a subject's truth, as the device would say it."""
