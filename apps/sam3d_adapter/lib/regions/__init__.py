"""Objects found in real volumes without labels: regions with a clear border, to train on."""
