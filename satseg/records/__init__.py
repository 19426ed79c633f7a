"""Records of runs: what they may hold and name, and what is made from them."""
