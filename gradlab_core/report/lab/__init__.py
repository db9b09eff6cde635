"""The lab's page and tables: what each study says in words, numbers and charts."""
