"""Ways out of the simulator: each serves simulated devices over a link that the gateway takes for real."""
