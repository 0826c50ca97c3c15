"""Training volumes made from label maps: CT, MR and PET with many objects each."""
