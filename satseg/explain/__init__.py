"""Maps of evidence for images: what is asked, and the answers as files."""
