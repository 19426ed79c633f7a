"""Evidence maps for images, written as files."""
