"""The mapping language, usable and testable alone."""
