"""The table on local disk: RocksDB, one database a partition number, restored from its changelog."""
