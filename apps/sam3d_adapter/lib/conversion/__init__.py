"""From the files that others publish to the two files that a preset names."""
