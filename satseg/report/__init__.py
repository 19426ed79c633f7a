"""Many runs side by side: who leads, by how much, and whether that is more than chance."""
