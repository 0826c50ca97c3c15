"""Which mask was given for which clicks: an append-only record of every answer, without patient data."""
