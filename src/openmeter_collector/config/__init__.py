"""YAML text to typed configuration, with every fault named at its place."""
