"""Recorded inputs through the current code, and what it owes beside what was recorded: nothing is produced."""
