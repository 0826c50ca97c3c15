"""Images and label maps as they are stored: readers, header validation, the cache of volumes."""
