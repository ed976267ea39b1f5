"""Records, stores, judges and serves: the only room that knows all others."""
