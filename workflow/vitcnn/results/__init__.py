"""From the runs' files to the table, the figures and the findings."""
