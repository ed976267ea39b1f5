"""Physiology with known truth: pure functions of time and seed."""
