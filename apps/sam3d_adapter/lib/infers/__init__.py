"""MONAI Label infer tasks, thin."""
