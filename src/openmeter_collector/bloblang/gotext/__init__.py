"""Formats of the engine's platform: its number syntax, time layouts, `%` verbs, regular
expressions. Published mappings are written for these, and users match on their error texts.
"""
