"""What several sciences share, each function tested against an outside truth."""
