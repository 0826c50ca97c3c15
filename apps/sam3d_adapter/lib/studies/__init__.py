"""The folder of images on the disk: images, labels with their names, former labels, the index of them all."""
