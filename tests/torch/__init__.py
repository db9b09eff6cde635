"""What only the PyTorch twin has, and what it must do by itself."""
