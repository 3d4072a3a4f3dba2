"""Messages and the deliveries that carry them and their acknowledgement."""
