"""Every change of coordinates: axes, regions of interest, resampling, pasting."""
