"""The way of a record: tasks decide, one commit writes everything, then the stores follow."""
