"""The versions of a preset's weights: kept whole, published and rolled back at once, whatever stops in between."""
