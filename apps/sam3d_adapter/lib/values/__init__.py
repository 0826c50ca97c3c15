"""Whether the values of an image are what a preset expects."""
