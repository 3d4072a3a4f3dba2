"""The HTTP listener, health, metrics and ingest routes."""
