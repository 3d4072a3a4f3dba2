"""Values that need no pipeline: JSON, units, paths, schedules, CloudEvents rules."""
