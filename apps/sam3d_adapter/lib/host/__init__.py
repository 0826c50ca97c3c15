"""What MONAI Label needs patched, one file a defect."""
