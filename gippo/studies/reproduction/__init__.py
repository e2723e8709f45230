"""The paper's experiments, run again: what they are, their runs, tables, figures and pages."""
