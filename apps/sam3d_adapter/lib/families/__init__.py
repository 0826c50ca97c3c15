"""The families of networks that can be served: one folder each, found by `lib.segmenters.families`."""
