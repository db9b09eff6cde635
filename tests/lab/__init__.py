"""The lab: its definitions, studies, commands and pages."""
