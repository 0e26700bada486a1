"""Speed: what a meta-update and an exported model take on this machine, and beside PyTorch."""
