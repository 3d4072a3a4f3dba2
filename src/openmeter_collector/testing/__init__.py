"""A kit for those who write components: virtual clock, contracts, faults."""
