"""Side-by-side benchmarks against the peers, and the models that they and the tests run."""
