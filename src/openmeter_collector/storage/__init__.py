"""The journal: what makes an acknowledged event durable."""
