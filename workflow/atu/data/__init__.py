"""Benchmarks: where they come from, their rows, their probe sets, and the published numbers."""
