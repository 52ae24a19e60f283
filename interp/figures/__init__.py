"""Arrays and labels to plotly figures. Knows no result type."""
