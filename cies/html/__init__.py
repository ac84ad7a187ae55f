"""HTML pages: galleries to browse, contact sheets of searches, and benchmark reports."""
