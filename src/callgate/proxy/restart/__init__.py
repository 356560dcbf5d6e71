"""What outlives a start: rows of calls, calls made again of them, and a reload while calls go on."""
