"""What the commands that go through a whole gallery print: facets, groups, outliers, duplicates."""
