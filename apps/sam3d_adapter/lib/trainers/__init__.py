"""MONAI Label's train tasks: thin, one per preset."""
