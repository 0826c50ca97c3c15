"""Running the model for one click: the predictor, its embedding cache, the loaded models."""
