"""Clicks, axes and the ROI they place: numpy only, no image data."""
