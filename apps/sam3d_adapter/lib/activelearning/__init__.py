"""MONAI Label's Next Sample: which case an annotator gets next."""
