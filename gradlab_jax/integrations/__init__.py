"""gradlab inside the libraries that people train with; each module imports its library only when it is imported."""
