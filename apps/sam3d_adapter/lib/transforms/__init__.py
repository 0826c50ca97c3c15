"""MONAI transforms of one click: image and clicks in, normalised ROI out; logits in, mask on the image's grid out."""
