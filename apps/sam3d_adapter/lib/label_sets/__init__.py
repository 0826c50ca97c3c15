"""Sets of images and labels as other programs read them: written from submitted labels, and read back as such."""
