"""Benchmarks: a script per question; medians and ratios. `python -m bench` lists them."""
