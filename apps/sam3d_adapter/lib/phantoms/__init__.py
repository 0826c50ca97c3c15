"""CT-like volumes with known lesions, made from a seed: data for training and tests where no patient data may go."""
