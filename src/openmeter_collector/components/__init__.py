"""One component, one file."""
