"""Warp programs under torch: recorded launches, their reverse, threads."""
