"""Pages to browse a gallery by, as a folder of plain files."""
