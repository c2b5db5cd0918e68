"""What holds bytes and state: the ports, the records, and one adapter for each real thing."""
