"""gradlab inside the libraries that people train with; each module imports its library only when it is imported.

Nothing that works without the library it is for.
Imports programs and what lies below it.
"""
