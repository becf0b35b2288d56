"""What a court is handed: a bag of recordings with all that proves them, and papers that say what was found."""
