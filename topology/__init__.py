"""
The process manager's core: what one order confirmation is.

Synchronous in, synchronous out: nothing here does I/O, reads a clock or makes a random number, so the same code is
driven by Kafka, by a test, by a model checker or by a for-loop. Read `messages`, `state`, `transitions`, `process`.
"""
