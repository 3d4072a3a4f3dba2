"""Ready configurations, one folder each."""
