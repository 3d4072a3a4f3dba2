"""OpenMeter Collector: collects usage events and delivers them to OpenMeter, durably."""

__version__ = "0.1.0"
