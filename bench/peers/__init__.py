"""What the comparison compares with: the same join in Kafka Streams, Quix Streams and plain Faust."""
