"""What only the JAX twin has, and what it must do by itself."""
