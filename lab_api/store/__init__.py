"""Session stores: what a recorded session is, and where it is kept."""
