"""Which case is labelled next."""
