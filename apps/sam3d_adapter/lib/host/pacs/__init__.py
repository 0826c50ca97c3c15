"""Series and labels of a PACS."""
