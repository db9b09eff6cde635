"""The pages of the lab, which show the results of `gradlab lab` as charts, tables and text."""
