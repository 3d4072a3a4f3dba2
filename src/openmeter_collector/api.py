"""The one door through which components use the collector."""
