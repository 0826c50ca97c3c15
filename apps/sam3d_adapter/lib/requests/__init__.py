"""A request for a mask, read once: prompts as each viewer sends them, options, label maps."""
