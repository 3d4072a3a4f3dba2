"""Performance figures, printed as ratios to a bare ceiling measured in the same run."""
