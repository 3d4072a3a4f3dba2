"""What the collector says of itself: counters, logs, traces."""
