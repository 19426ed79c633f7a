"""Lightning callbacks of training: records, averaged weights, the model file."""
