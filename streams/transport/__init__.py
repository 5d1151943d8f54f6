"""librdkafka as Faust's transport: one consumer, one transaction, and who owns which partition."""
