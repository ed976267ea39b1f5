"""Pretends: medical devices with known truth, byte for byte, on virtual or real links."""
