"""Side-by-side benchmarks against the peers, and the models that they and the tests run.

Which command answers which question is told in docs/bench.md.
"""
