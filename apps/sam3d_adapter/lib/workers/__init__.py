"""One function over many cases, in this process or on workers of Ray."""
