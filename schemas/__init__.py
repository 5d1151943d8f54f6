"""
The public contract (the .avsc files), and bytes to messages and back.

Read `record_schema`, `catalog`, `checker`, `codec` for the topics' records, `state_codec` for the table's rows.
Nothing here reaches a network: ids of a schema registry are handed in.
"""
