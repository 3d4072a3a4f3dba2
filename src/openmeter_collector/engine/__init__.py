"""Runs a configured pipeline."""
