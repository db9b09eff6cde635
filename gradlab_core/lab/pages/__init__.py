"""The pages of the lab: what `gradlab lab` found, as charts, tables and text."""
