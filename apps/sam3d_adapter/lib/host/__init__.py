"""What MONAI Label needs mended, one file a defect."""
