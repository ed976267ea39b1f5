"""Evidence for clinical protocols, taken from what was recorded."""
