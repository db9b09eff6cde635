"""The core: definitions, records, judge, programs, sinks; no framework but for the scenarios."""
