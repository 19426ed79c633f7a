"""Recognition of how a user's folder lays out images and masks."""
