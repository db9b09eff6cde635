"""The stability lab: what a net does to a signal and its gradient before the first step, by theory and definition."""
