"""What a model says of its arrays: paths, classes, kinds of layers, recurrent cells."""
