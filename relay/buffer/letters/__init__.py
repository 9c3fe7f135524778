"""Dead letters: `box` keeps and bounds them, `reading` finds, `jobs` sends, drops and erases."""
