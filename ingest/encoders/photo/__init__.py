"""The method photo: descriptors of a picture from one pass of a small convolutional network."""
