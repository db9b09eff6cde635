"""The experiments of `gradlab lab`. Each gives a record of what was measured beside theory, without text or charts."""
