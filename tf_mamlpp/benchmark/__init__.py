"""Speed: how long a meta-update and an exported model take on this machine, and PyTorch beside them."""
