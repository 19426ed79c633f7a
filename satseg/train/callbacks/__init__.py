"""What listens to training: records, averaged weights, the model file."""
