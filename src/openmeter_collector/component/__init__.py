"""Contracts between the engine and components. The docstrings are normative."""
