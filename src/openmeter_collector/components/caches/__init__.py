"""Caches: keys to values, shared by label."""
