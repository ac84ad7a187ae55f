"""Pictures in: scanning, reading, conditions, encoders, and the pipeline that fills a gallery."""
