"""The versions of a preset's weights: kept whole, published and taken back at once, whatever stops in between."""
