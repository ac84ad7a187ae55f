"""Rankings and encoders in the forms that other evaluators take."""
