"""The whole system on one machine, and a run of commands through it."""
