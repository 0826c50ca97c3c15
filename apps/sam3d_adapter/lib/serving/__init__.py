"""Which weights answer: models in memory, and the version that is served."""
