"""The orders service: answers queries for order details, and publishes changed orders if asked to."""
