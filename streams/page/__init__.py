"""The page for people: what the worker serves at ``/``, and what collects the numbers on it."""
