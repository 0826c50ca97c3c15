"""A fine-tuning round: train on submitted labels, measure, let the gate decide, publish."""
