"""Metrics components."""
