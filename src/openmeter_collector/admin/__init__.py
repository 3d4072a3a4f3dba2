"""Pages for operators and their API."""
