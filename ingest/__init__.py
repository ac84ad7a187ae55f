# Part of CIES; the import of cies checks that no other distribution has replaced this file.
"""Pictures in: scanning, reading, conditions, encoders, and the pipeline that fills a gallery."""
