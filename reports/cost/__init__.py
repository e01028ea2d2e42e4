"""The table of costs (Table 6), whose columns are not tasks: its numbers, its text, its CSV."""
