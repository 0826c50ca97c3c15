"""Fine-tuning on the hospital's own server: from submitted labels to a version that may be served."""
