"""The e-mail service: renders and sends each requested mail once, and keeps a ledger of what became of it."""
