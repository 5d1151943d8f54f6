"""The two other participants: the orders service and the e-mail service, strangers to each other."""
