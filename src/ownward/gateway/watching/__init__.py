"""What can be seen of a gateway: counters, gauges, log lines and spans."""
