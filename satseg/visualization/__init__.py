"""Pictures and pages. Takes arrays and plain numbers."""
