"""Comparisons: benchmarks, diagnostics, gradient checks, the reproduction of the paper."""
