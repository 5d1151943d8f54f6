"""Benchmarks: a script a question, run by ``python -m bench NAME``."""
