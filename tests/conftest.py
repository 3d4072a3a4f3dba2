"""Settings for the whole suite."""

from hypothesis import settings

# A deadline in milliseconds measures how busy the machine is.
settings.register_profile("ours", deadline=None)
settings.load_profile("ours")
