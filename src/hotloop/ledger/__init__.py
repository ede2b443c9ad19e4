"""Where usage is written down."""
