"""The shell: everything that touches Kafka, disks, databases, mail servers and people."""
